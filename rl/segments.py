"""Advantages per segment, and how they lie over an answer's tokens: pure.

Shapes: P groups, G rollout slots, S segments, T answer tokens.

    GroupScore.segment_rewards --by name--> rewards_PGS --advantages.py, each segment by itself--> advantages_PGS
    advantages_PGS, token offsets of the segments --> advantages_T, segment_ids_T

Rewards are the segments' own, so what ranks badly does not blame the slate before it; `slate_sees_rank` g adds to
segment s the share that a sum of all rewards would give it, g x sum over later segments r of (w_r / w_s) A_r, w being
the loss weights: with g = 1 this is the reward-to-go of the weighted sum. F-GRPO (arXiv 2605.12995) has g = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rewards.types import GroupScore, Segment
from rl.advantages import Float64Array, compute_advantages
from rl.objectives import Objective
from rollouts.types import BoolArray, FloatArray, Group, IntArray, Rollout


@dataclass(frozen=True, slots=True, eq=False)
class SegmentAdvantages:
    """names[s] is segment s. rewards_PGS: NaN where a segment is unscored or missing; its advantage is 0.

    own_PGS: each segment's advantage by its own reward. advantages_PGS: what its tokens learn from.
    """

    names: tuple[str, ...]
    rewards_PGS: Float64Array
    own_PGS: Float64Array
    advantages_PGS: Float64Array

    @property
    def scored_PGS(self) -> npt.NDArray[np.bool_]:  # noqa: N802 - a shape suffix
        return np.asarray(~np.isnan(self.rewards_PGS))


def build_segment_advantages(
    groups: Sequence[Group], scores: Sequence[GroupScore], *, objective: Objective, min_group: int, dropped_P: BoolArray
) -> SegmentAdvantages | None:
    """Advantages of every segment that a rollout has and a reward names; None where there are no such segments.

    A missing segment, and one whose reward is None, is part of no baseline. In a group where fewer than `min_group`
    rollouts have a segment scored, nobody learns from it.

    Args:
        dropped_P: groups that are left out whole.

    Raises:
        ValueError: rewards of another group size, or a segment id with two names.
    """
    names = _names(groups, scores)
    if not names:
        return None
    num_slots = max(len(group.rollouts) for group in groups)
    rewards_PGS = np.full((len(groups), num_slots, len(names)), np.nan)
    ids_PG = np.zeros(rewards_PGS.shape[:2], dtype=np.int64)
    for p, (group, score) in enumerate(zip(groups, scores, strict=True)):
        if score.baseline_ids:
            ids_PG[p, : len(score.baseline_ids)] = score.baseline_ids
        for slot, rollout in enumerate(group.rollouts):
            if rollout is None or score.rewards[slot] is None or dropped_P[p]:
                continue
            for segment in _known(rollout, names):
                reward = _reward(group, score, segment.name, slot)
                rewards_PGS[p, slot, segment.id] = np.nan if reward is None else reward
    too_few_PS = (~np.isnan(rewards_PGS)).sum(axis=1) < min_group
    rewards_PGS = np.where(too_few_PS[:, None, :], np.nan, rewards_PGS)
    own_PGS = compute_advantages(rewards_PGS, kind=objective.advantage, baseline_ids_PG=ids_PG)
    weights_S = np.array([objective.segment_weight(s) for s in range(len(names))])
    return SegmentAdvantages(
        names=names,
        rewards_PGS=rewards_PGS,
        own_PGS=own_PGS,
        advantages_PGS=with_later(own_PGS, weights_S, objective.slate_sees_rank, ~np.isnan(rewards_PGS)),
    )


def with_later(
    own_PGS: Float64Array, weights_S: Float64Array, share: float, scored_PGS: npt.NDArray[np.bool_]
) -> Float64Array:
    """Each scored segment's advantage plus `share` of the later ones', in units of its own loss weight.

    A segment of weight 0 stays as it is: its loss is 0 whatever it sees.
    """
    weighted_PGS = own_PGS * weights_S
    later_PGS = weighted_PGS[..., ::-1].cumsum(axis=-1)[..., ::-1] - weighted_PGS
    seen_PGS = share * later_PGS / np.where(weights_S > 0, weights_S, np.inf)
    return np.where(scored_PGS, own_PGS + seen_PGS, own_PGS)


def lay_over_tokens(
    rollout: Rollout, advantages_S: Float64Array, scored_S: npt.NDArray[np.bool_]
) -> tuple[FloatArray, IntArray]:
    """advantages_T and segment_ids_T of an answer. Tokens of no segment, or of an unscored one, have 0 and -1."""
    advantages_T = np.zeros(rollout.num_tokens, dtype=np.float32)
    segment_ids_T = np.full(rollout.num_tokens, -1, dtype=np.int32)
    for segment in rollout.parsed.segments:
        if segment.id < len(scored_S) and scored_S[segment.id]:
            advantages_T[segment.start : segment.end] = advantages_S[segment.id]
            segment_ids_T[segment.start : segment.end] = segment.id
    return np.where(rollout.loss_mask, advantages_T, np.float32(0.0)), segment_ids_T


def segment_metrics(groups: Sequence[Group], built: SegmentAdvantages) -> dict[str, float]:
    """Per segment: mean reward, spread of its advantages, groups in which it teaches nothing, its length in tokens."""
    lengths: dict[int, list[int]] = {}
    for group in groups:
        for rollout in group.rollouts:
            for segment in _known(rollout, built.names):
                lengths.setdefault(segment.id, []).append(segment.end - segment.start)
    metrics: dict[str, float] = {}
    for s, name in enumerate(built.names):
        scored_PG = built.scored_PGS[:, :, s]
        has_some_P = scored_PG.any(axis=1)
        if s in lengths:
            metrics[f"segment/{name}_tokens"] = float(np.mean(lengths[s]))
        if not has_some_P.any():
            continue
        teaches_P = np.any(built.own_PGS[:, :, s] != 0, axis=1)
        metrics |= {
            f"segment/{name}_reward": float(built.rewards_PGS[:, :, s][scored_PG].mean()),
            f"segment/{name}_advantage_std": float(built.own_PGS[:, :, s][scored_PG].std()),
            f"segment/{name}_zero_signal_rate": float(1 - teaches_P[has_some_P].mean()),
        }
    return metrics


def _names(groups: Sequence[Group], scores: Sequence[GroupScore]) -> tuple[str, ...]:
    """By id, of the segments that rollouts have and rewards name; "" for an id in between that has no reward."""
    names: dict[int, str] = {}
    for group, score in zip(groups, scores, strict=True):
        for rollout in group.rollouts:
            for segment in rollout.parsed.segments if rollout is not None else ():
                if segment.name in score.segment_rewards and names.setdefault(segment.id, segment.name) != segment.name:
                    raise ValueError(f"segment {segment.id} is {names[segment.id]!r} and {segment.name!r}")
    return tuple(names.get(s, "") for s in range(max(names, default=-1) + 1))


def _known(rollout: Rollout | None, names: Sequence[str]) -> list[Segment]:
    """A rollout's segments that have rewards."""
    segments = rollout.parsed.segments if rollout is not None else ()
    return [segment for segment in segments if segment.id < len(names) and names[segment.id] == segment.name]


def _reward(group: Group, score: GroupScore, name: str, slot: int) -> float | None:
    rewards = score.segment_rewards.get(name)
    if rewards is None:
        return None
    if len(rewards) != len(group.rollouts):
        raise ValueError(
            f"group {group.key} has {len(group.rollouts)} slots and {len(rewards)} rewards of segment {name!r}"
        )
    return rewards[slot]
