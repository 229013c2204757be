"""From scored groups to what the learner reads: pure.

groups, scores --> advantage per rollout, or per segment (segments.py) --> advantage per token --> TrainGroup
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.errors import RunStopped
from rewards.types import GroupScore
from rl.advantages import TrainAdvantages, build_train_advantages
from rl.criteria import build_criteria_advantages
from rl.objectives import Criteria, Objective
from rl.segments import SegmentAdvantages, build_segment_advantages, lay_over_tokens, segment_metrics
from rl.types import TrainGroup, TrainRollout
from rollouts.types import FloatArray, Group, IntArray, Rollout


@dataclass(frozen=True, slots=True, eq=False)
class TrainBatch:
    """What a step learns from. `metrics` describe the rewards; `reliability` is the mean over groups that have one.
    `warnings` are lines that a person should read."""

    groups: tuple[TrainGroup, ...]
    reliability: float | None
    metrics: dict[str, float]
    warnings: tuple[str, ...] = ()


def build_train_batch(
    groups: Sequence[Group], scores: Sequence[GroupScore], *, objective: Objective, min_group: int
) -> TrainBatch:
    """Advantages of a step's groups, laid over their tokens.

    Unscored rollouts and groups with fewer than `min_group` scored ones are left out and counted. Tokens that the
    policy did not choose get advantage 0 and stay outside the loss. An objective with segments learns from each
    segment's own reward and leaves out rollouts of which no segment is scored; one with criteria from the mix of their
    advantages; any other from the rollout's reward.

    Raises:
        ValueError: a group and its score do not fit, or a score is of another group size.
        RunStopped: the objective needs segments or criteria, and the step has none.
    """
    for group, score in zip(groups, scores, strict=True):
        if len(score.rewards) != len(group.rollouts):
            raise ValueError(f"group {group.key} has {len(group.rollouts)} slots and {len(score.rewards)} rewards")
    built = build_train_advantages(
        [score.rewards for score in scores],
        kind=objective.advantage,
        min_group=min_group,
        baseline_ids=[score.baseline_ids for score in scores],
    )
    more_metrics: dict[str, float] = {}
    warnings: list[str] = []
    if objective.criteria is not None:
        mixed = build_criteria_advantages(scores, objective.criteria, kind=objective.advantage, min_group=min_group)
        built, more_metrics = mixed.built, mixed.metrics
        warnings = _warn_of(mixed.missing, objective.criteria, scores)
    segments = build_segment_advantages(
        groups, scores, objective=objective, min_group=min_group, dropped_P=built.dropped_P
    )
    if objective.uses_segments:
        if segments is None and any(score.num_scored for score in scores):
            raise RunStopped(
                f"rl.objective.kind {objective.kind} learns from segments, and no answer has one with a reward of its "
                "own; let task.parse give spans and the scorer a reward per span, or choose an objective without"
            )
        train_groups = _segmented(groups, segments)
        num_zero_signal = sum(not any(r.advantages.any() for r in group.rollouts) for group in train_groups)
    else:
        train_groups = _whole(groups, built)
        num_zero_signal = built.num_zero_signal
    reliabilities = [score.reliability for score in scores if score.reliability is not None]
    reliability = float(np.mean(reliabilities)) if reliabilities else None
    return TrainBatch(
        groups=tuple(train_groups),
        reliability=reliability,
        metrics=_reward_metrics(groups, scores, reliability)
        | (segment_metrics(groups, segments) if segments is not None else {})
        | {
            "reward/num_groups_dropped": float(built.num_dropped),
            "reward/num_groups_zero_signal": float(num_zero_signal),
            "reward/num_unscored": float(built.num_unscored),
            "reward/advantage_std": float(built.advantages_PG[built.scored_PG].std()) if built.scored_PG.any() else 0.0,
        }
        | more_metrics,
        warnings=tuple(warnings),
    )


def _warn_of(missing: Sequence[str], criteria: Criteria, scores: Sequence[GroupScore]) -> list[str]:
    """Of criteria that nothing is learned from although the recipe names them; RunStopped where that is all of them."""
    names = sorted({name for score in scores for name in score.per_criterion})
    said = f"it speaks of {', '.join(names)}" if names else "it speaks of no criteria"
    if missing and len(missing) == len(criteria.weights):
        raise RunStopped(
            f"rl.objective.criteria.weights names {', '.join(missing)}, and no verdict of the step speaks of that: "
            f"{said}; name those, or let the judge or scorer give them"
        )
    return [f"criterion {name}: no verdict of the step speaks of it; {said}" for name in missing]


def _whole(groups: Sequence[Group], built: TrainAdvantages) -> list[TrainGroup]:
    """One advantage per rollout, on every token."""
    train_groups: list[TrainGroup] = []
    for p, group in enumerate(groups):
        rollouts = {
            slot: _train_rollout(
                rollout,
                np.where(rollout.loss_mask, np.float32(built.advantages_PG[p, slot]), np.float32(0.0)),
                np.full(rollout.num_tokens, -1, dtype=np.int32),
            )
            for slot, rollout in enumerate(group.rollouts)
            if rollout is not None and built.scored_PG[p, slot] and rollout.num_tokens > 0
        }
        if rollouts:
            train_groups.append(TrainGroup(p, group.prompt_token_ids, tuple(rollouts.values()), tuple(rollouts)))
    return train_groups


def _segmented(groups: Sequence[Group], built: SegmentAdvantages | None) -> list[TrainGroup]:
    """Each segment's advantage on its own tokens."""
    train_groups: list[TrainGroup] = []
    for p, group in enumerate(groups if built is not None else ()):
        assert built is not None
        rollouts = {
            slot: _train_rollout(
                rollout, *lay_over_tokens(rollout, built.advantages_PGS[p, slot], built.scored_PGS[p, slot])
            )
            for slot, rollout in enumerate(group.rollouts)
            if rollout is not None and built.scored_PGS[p, slot].any() and rollout.num_tokens > 0
        }
        if rollouts:
            train_groups.append(TrainGroup(p, group.prompt_token_ids, tuple(rollouts.values()), tuple(rollouts)))
    return train_groups


def _train_rollout(rollout: Rollout, advantages_T: FloatArray, segment_ids_T: IntArray) -> TrainRollout:
    return TrainRollout(
        token_ids=rollout.token_ids,
        loss_mask=rollout.loss_mask,
        advantages=advantages_T,
        segment_ids=segment_ids_T,
        rollout_logprobs=rollout.logprobs,
    )


def _reward_metrics(
    groups: Sequence[Group], scores: Sequence[GroupScore], reliability: float | None
) -> dict[str, float]:
    rewards = [reward for score in scores for reward in score.rewards if reward is not None]
    rollouts = [rollout for group in groups for rollout in group.rollouts if rollout is not None]
    metrics = {
        "reward/num_scored": float(len(rewards)),
        "rollout/num_rollouts": float(len(rollouts)),
        "rollout/num_lost": float(sum(rollout is None for group in groups for rollout in group.rollouts)),
        "rollout/num_tokens": float(sum(rollout.num_tokens for rollout in rollouts)),
    }
    if rewards:
        spreads = [np.std([r for r in score.rewards if r is not None]) for score in scores if score.num_scored > 1]
        metrics["reward/mean"] = float(np.mean(rewards))
        metrics["reward/group_std"] = float(np.mean(spreads)) if spreads else 0.0
    if rollouts:
        metrics["rollout/mean_tokens"] = float(np.mean([rollout.num_tokens for rollout in rollouts]))
        metrics["rollout/truncated_fraction"] = float(
            np.mean([rollout.finish_reason == "length" for rollout in rollouts])
        )
    if reliability is not None:
        metrics["reward/reliability"] = reliability
    for name in dict.fromkeys(name for score in scores for name in score.figures):
        values = [value for score in scores for value in score.figures.get(name, ()) if value is not None]
        if values:
            metrics[f"figure/{name}"] = float(np.mean(values))
    gated = sum(len(slots) for score in scores for slots in score.gate_failures.values())
    metrics["reward/num_gate_failures"] = float(gated)
    for name in sorted({name for score in scores for name in score.gate_failures}):
        metrics[f"gate/{name}/num_failed"] = float(sum(len(score.gate_failures.get(name, ())) for score in scores))
    for name in sorted({name for score in scores for name in score.gate_scores}):
        said = [value for score in scores for value in score.gate_scores.get(name, ()) if value is not None]
        if said:
            metrics[f"gate/{name}/mean_score"] = sum(said) / len(said)
    return metrics
