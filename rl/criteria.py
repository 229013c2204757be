"""Several rewards per rollout, each normalised by itself and then mixed (GDPO, arXiv 2601.05242).

Shapes: P prompts (groups), G rollout slots, C criteria.

    GroupScore.per_criterion --by name--> rewards_PGC --advantages.py, each criterion by itself--> own_PGC
    A = sum_c weight_c own_c, then divided by the root of its mean square over the batch

A criterion with small numbers, or one that nearly all rollouts meet, then counts as much as its weight says; summed
raw rewards let the widest one decide. Without the last division, A's size grows with the number of criteria. GDPO
subtracts the batch's mean there too: it is 0, since every kind of advantage is centred, and leaving it out keeps a
group that teaches nothing at exactly 0. GDPO itself is `mean_std` per criterion; other kinds are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rewards.gate_rewards import apply_factors, merge_gated
from rewards.types import GroupScore
from rl.advantages import Float64Array, TrainAdvantages, compute_advantages
from rl.objective_config import AdvantageKind
from rl.objectives import Criteria

ROUNDING = 1e-9
"""Criteria that pull against each other cancel where this share of their sizes is left."""


class Mixed(NamedTuple):
    """mixed_PG: 0 where a rollout is unscored by every criterion. own_PGC: of each criterion, before its weight."""

    mixed_PG: Float64Array
    own_PGC: Float64Array


def mix_criteria(
    rewards_PGC: npt.ArrayLike,
    weights_C: npt.ArrayLike,
    *,
    kind: AdvantageKind = "mean_std",
    baseline_ids_PG: npt.ArrayLike | None = None,
    whiten: bool = True,
) -> Mixed:
    """Advantages of each criterion by itself, and their weighted sum.

    Args:
        rewards_PGC: raw, NaN = unscored by that criterion: such a rollout is no part of its mean and std, and gets
            nothing from it.
        kind: of each criterion by itself.
        whiten: bring the sum to std 1 over all scored rollouts of the batch, which then must be complete.

    Raises:
        ValueError: as `compute_advantages`, or weights that do not fit.
    """
    rewards = np.asarray(rewards_PGC, dtype=np.float64)
    weights = np.asarray(weights_C, dtype=np.float64)
    if rewards.ndim != 3 or weights.shape != rewards.shape[2:]:
        raise ValueError(f"rewards have shape {rewards.shape} and weights {weights.shape}, not [P, G, C] and [C]")
    own_PGC = compute_advantages(rewards, kind=kind, baseline_ids_PG=baseline_ids_PG)
    mixed_PG = own_PGC @ weights
    mixed_PG[np.abs(mixed_PG) <= ROUNDING * (np.abs(own_PGC) @ np.abs(weights))] = 0.0
    scored_PG = ~np.isnan(rewards).all(axis=2)
    if whiten and mixed_PG.any():
        mixed_PG /= np.sqrt(np.mean(mixed_PG[scored_PG] ** 2))
    return Mixed(mixed_PG, own_PGC)


@dataclass(frozen=True, slots=True, eq=False)
class CriteriaAdvantages:
    """built: what the batch teaches, mixed. metrics: per criterion. missing: criteria of which no verdict speaks,
    though there are some."""

    built: TrainAdvantages
    metrics: dict[str, float]
    missing: tuple[str, ...]


def build_criteria_advantages(
    scores: Sequence[GroupScore], criteria: Criteria, *, kind: AdvantageKind, min_group: int
) -> CriteriaAdvantages:
    """Mixed advantages of ragged groups, as `build_train_advantages` gives those of one reward.

    A criterion that fewer than `min_group` of a group's rollouts have scored teaches nothing in that group; a group
    with fewer rollouts than that under all criteria together is dropped whole. A rollout without a reward is unscored,
    whatever its criteria say.

    Raises:
        ValueError: a criterion of another group size, or baseline ids that do not fit.
    """
    names = tuple(criteria.weights)
    shape = len(scores), max((len(score.rewards) for score in scores), default=0)
    rewards_PGC = np.full((*shape, len(names)), np.nan)
    ids_PG = np.zeros(shape, dtype=np.int64)
    for p, score in enumerate(scores):
        size = len(score.rewards)
        ids_PG[p, :size] = score.baseline_ids or 0
        for c, name in enumerate(names):
            rewards_PGC[p, :size, c] = [np.nan if value is None else value for value in criterion_rewards(score, name)]
    num_slots = sum(len(score.rewards) for score in scores)
    num_unscored = num_slots - int((~np.isnan(rewards_PGC)).any(axis=2).sum())
    rewards_PGC[np.broadcast_to(_too_few(rewards_PGC, min_group)[:, None, :], rewards_PGC.shape)] = np.nan
    scored_PG = ~np.isnan(rewards_PGC).all(axis=2)
    dropped_P = scored_PG.sum(axis=1) < min_group
    rewards_PGC[dropped_P] = np.nan
    mixed = mix_criteria(
        rewards_PGC, list(criteria.weights.values()), kind=kind, baseline_ids_PG=ids_PG, whiten=criteria.whiten
    )
    built = TrainAdvantages(
        advantages_PG=mixed.mixed_PG,
        scored_PG=scored_PG & ~dropped_P[:, None],
        dropped_P=dropped_P,
        zero_signal_P=~dropped_P & ~mixed.mixed_PG.any(axis=1),
        num_unscored=num_unscored,
    )
    said = {name for score in scores for name in score.per_criterion}
    missing = [name for name in names if name not in said] if any(map(_was_judged, scores)) else []
    return CriteriaAdvantages(built, _metrics(names, rewards_PGC, mixed.own_PGC), tuple(missing))


def criterion_rewards(score: GroupScore, name: str) -> list[float | None]:
    """A criterion's raw rewards by slot; None where the rollout is unscored, or nothing was said of it.

    Win rates are those of rollouts that played. As in the group's rewards, soft gates take from each of them, and one
    that a hard gate vetoed stands below all on every criterion. A scorer's criteria come with its gates applied.

    Raises:
        ValueError: the criterion has another number of slots than the group.
    """
    size = len(score.rewards)
    said = score.per_criterion.get(name, [None] * size)
    if len(said) != size:
        raise ValueError(f"a group of {size} slots has {len(said)} rewards of criterion {name!r}")
    values = [None if reward is None else value for reward, value in zip(score.rewards, said, strict=True)]
    if score.kind is None:
        return values
    vetoed = _vetoed(score)
    survivors = {slot for slot, reward in enumerate(score.rewards) if reward is not None} - vetoed
    factors = {slot: factor for slot, factor in enumerate(score.gate_factors) if factor is not None}
    return merge_gated(apply_factors(values, factors, "probability"), survivors, vetoed, "probability")


def _vetoed(score: GroupScore) -> set[int]:
    return {slot for slots in score.gate_failures.values() for slot in slots}


def _was_judged(score: GroupScore) -> bool:
    """Whether judge or scorer had occasion to speak of criteria: gates and routers say nothing of them."""
    if score.kind is None:
        vetoed = _vetoed(score)
        return any(reward is not None and slot not in vetoed for slot, reward in enumerate(score.rewards))
    calls = (call for match in score.matches for call in match.calls)
    return any(call.verdict.value is not None and not call.is_routed for call in calls)


def _too_few(rewards_PGC: Float64Array, min_group: int) -> npt.NDArray[np.bool_]:
    return np.asarray((~np.isnan(rewards_PGC)).sum(axis=1) < min_group)


def _metrics(names: Sequence[str], rewards_PGC: Float64Array, own_PGC: Float64Array) -> dict[str, float]:
    """Per criterion: rollouts that it is learned from in, mean reward, spread of its advantages, and the share of its
    groups in which it teaches nothing."""
    metrics: dict[str, float] = {}
    for c, name in enumerate(names):
        scored_PG = ~np.isnan(rewards_PGC[:, :, c])
        metrics[f"criterion/{name}_num_scored"] = float(scored_PG.sum())
        if scored_PG.any():
            teaches_P = np.any(own_PGC[:, :, c] != 0, axis=1)
            metrics |= {
                f"criterion/{name}_reward": float(rewards_PGC[:, :, c][scored_PG].mean()),
                f"criterion/{name}_advantage_std": float(own_PGC[:, :, c][scored_PG].std()),
                f"criterion/{name}_zero_signal_rate": float(1 - teaches_P[scored_PG.any(axis=1)].mean()),
            }
    return metrics
