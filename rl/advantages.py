"""Raw rewards to advantages: the only place where rewards are normalised.

Shapes: P prompts (groups), G rollout slots of a group, S segments. float64 throughout.

    rewards_PG --centre per baseline--> centred --divide by the kind's scale--> advantages_PG

| kind          | advantage of a scored rollout, N = number scored under its baseline                               |
|---------------|----------------------------------------------------------------------------------------------------|
| mean          | r - mean (Dr.GRPO, arXiv 2503.20783)                                                               |
| constant      | (r - mean) / sqrt((N+1) / (12 (N-1))), the std of a perfect order's win rates (ours)               |
| mean_std      | (r - mean) / std (GRPO, arXiv 2402.03300)                                                          |
| batch_std     | (r - mean) / root mean square of all centred rewards of the batch (Lite-PPO, arXiv 2508.08221)     |
| rloo          | r - mean of the others = N/(N-1) (r - mean) (arXiv 2402.14740)                                     |
| whiten        | (r - mean) / std over the whole batch, groups or not (REINFORCE++, arXiv 2501.03262)               |
| rank_quantile | as `constant`, of the rank mapped to [0, 1], ties share the mean rank (ArenaRL, arXiv 2601.06487)  |

std is the population's (divisor N): a perfect order then gets the same advantages from `constant`, `mean_std` and
`rank_quantile`. No epsilon is added to it, so that standardised rewards come out as they went in; a baseline whose
rewards are equal up to rounding (`RELATIVE_TOLERANCE`) gets zeros instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl.objective_config import AdvantageKind

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

RELATIVE_TOLERANCE = 1e-6
"""Rewards closer than this share of their baseline's largest absolute reward are equal (float32 keeps 7 digits)."""


def compute_advantages(
    rewards_PG: npt.ArrayLike, *, kind: AdvantageKind, baseline_ids_PG: npt.ArrayLike | None = None
) -> Float64Array:
    """Advantages of the shape of the rewards; 0 where a rollout is unscored or shares its baseline with no other.

    The baseline of `whiten` is the whole batch: it knows no groups.

    Args:
        rewards_PG: [P, G] or [P, G, S], raw, higher is better. NaN = unscored or padding: left out of every mean, std
            and count. Each segment is normalised by itself, by the batch's std too.
        kind: see the table above. `batch_std` and `whiten` need the whole optimizer batch in one call.
        baseline_ids_PG: [P, G] integers; rollouts of a prompt with equal ids share a baseline. Default: all of them.

    Raises:
        ValueError: infinite rewards, or shapes that do not fit.
    """
    rewards = np.asarray(rewards_PG, dtype=np.float64)
    if rewards.ndim == 3:
        segments = [
            compute_advantages(rewards[:, :, s], kind=kind, baseline_ids_PG=baseline_ids_PG)
            for s in range(rewards.shape[2])
        ]
        return np.stack(segments, axis=2) if segments else np.zeros_like(rewards)
    if rewards.ndim != 2:
        raise ValueError(f"rewards must be [P, G] or [P, G, S], got shape {rewards.shape}")
    if np.isinf(rewards).any():
        raise ValueError("rewards must be finite, or NaN where a rollout is unscored")

    scored_PG = ~np.isnan(rewards)
    baselines_PG = _number_baselines(rewards.shape, baseline_ids_PG)
    advantages_PG = np.zeros_like(rewards)
    if scored_PG.any():
        advantages_PG[scored_PG] = _normalise(rewards[scored_PG], baselines_PG[scored_PG], kind)
    return advantages_PG


def _number_baselines(shape: tuple[int, ...], baseline_ids_PG: npt.ArrayLike | None) -> Int64Array:
    """[P, G] numbers, unique over the batch, of who shares a baseline."""
    rows_PG = np.broadcast_to(np.arange(shape[0])[:, None], shape)
    if baseline_ids_PG is None:
        return rows_PG.astype(np.int64)
    ids_PG = np.asarray(baseline_ids_PG)
    if ids_PG.shape != shape:
        raise ValueError(f"baseline ids have shape {ids_PG.shape}, rewards {shape}")
    pairs = np.stack([rows_PG.ravel(), ids_PG.ravel()], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(shape).astype(np.int64)


def _normalise(values: Float64Array, baselines: Int64Array, kind: AdvantageKind) -> Float64Array:
    """Advantages of scored rollouts, given flat with the number of their baseline."""
    if kind == "whiten":
        return _normalise(values, np.zeros_like(baselines), "mean_std")
    counts = np.bincount(baselines)
    largest = np.zeros(len(counts))
    np.maximum.at(largest, baselines, np.abs(values))
    tolerance = RELATIVE_TOLERANCE * largest
    centred = _centre(values, baselines)
    spread = np.zeros(len(counts))
    np.maximum.at(spread, baselines, np.abs(centred))
    has_signal = ((counts >= 2) & (spread > tolerance))[baselines]
    centred = np.where(has_signal, centred, 0.0)
    num_scored = counts[baselines]

    if kind == "mean":
        return centred
    if kind == "rloo":
        return centred * num_scored / np.maximum(num_scored - 1, 1)
    if kind == "constant":
        return centred / perfect_order_std(num_scored)
    if kind == "rank_quantile":
        quantiles = _rank_quantiles(values, baselines, tolerance)
        return np.where(has_signal, (quantiles - 0.5) / perfect_order_std(num_scored), 0.0)
    if kind == "mean_std":
        variances = np.bincount(baselines, weights=centred**2) / np.maximum(counts, 1)
        return centred / np.where(has_signal, np.sqrt(variances)[baselines], 1.0)
    if kind == "batch_std":
        in_groups = num_scored >= 2
        mean_square = np.mean(centred[in_groups] ** 2) if in_groups.any() else 0.0
        return centred / np.sqrt(mean_square) if mean_square > 0 else centred
    raise ValueError(f"unknown kind of advantage {kind!r}")


def perfect_order_std(num_scored: npt.ArrayLike) -> Float64Array:
    """Std of the win rates 0, 1/(N-1), .., 1 of N rollouts in perfect order: sqrt((N+1) / (12 (N-1))); 1 for N < 2."""
    n = np.asarray(num_scored, dtype=np.float64)
    return np.sqrt(np.where(n >= 2, (n + 1) / (12 * np.maximum(n - 1, 1)), 1.0))


def _centre(values: Float64Array, baselines: Int64Array) -> Float64Array:
    counts = np.maximum(np.bincount(baselines), 1)
    centred = values
    for _ in range(2):  # the second pass removes the rounding of the first, so that groups sum to 0
        centred = centred - (np.bincount(baselines, weights=centred) / counts)[baselines]
    return centred


def _rank_quantiles(values: Float64Array, baselines: Int64Array, tolerance: Float64Array) -> Float64Array:
    """Ranks inside each baseline mapped to [0, 1]; values within the baseline's tolerance of the next share a rank."""
    order = np.lexsort((values, baselines))
    sorted_values, sorted_baselines = values[order], baselines[order]
    counts = np.bincount(baselines)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    positions = np.arange(len(values)) - starts[sorted_baselines]
    opens_tie = np.ones(len(values), dtype=bool)
    opens_tie[1:] = (np.diff(sorted_baselines) != 0) | (np.diff(sorted_values) > tolerance[sorted_baselines[1:]])
    ties = np.cumsum(opens_tie) - 1
    mean_positions = np.bincount(ties, weights=positions) / np.bincount(ties)
    quantiles = np.empty_like(values)
    quantiles[order] = mean_positions[ties] / np.maximum(counts[sorted_baselines] - 1, 1)
    return quantiles


# --- a batch of groups --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class TrainAdvantages:
    """What a batch of groups teaches. Row p is the p-th group given; slots past its size are padding.

    advantages_PG: 0 where nothing is learned. scored_PG: slots to learn from, False in dropped groups.
    dropped_P: too few scored rollouts. zero_signal_P: kept, but every advantage is 0. A forward pass over such a group
    can be skipped where there is no KL term; its tokens still count in the loss normalisers, so that skipping it only
    saves time. num_unscored: slots without a reward, in dropped and kept groups.
    """

    advantages_PG: Float64Array
    scored_PG: npt.NDArray[np.bool_]
    dropped_P: npt.NDArray[np.bool_]
    zero_signal_P: npt.NDArray[np.bool_]
    num_unscored: int

    @property
    def num_dropped(self) -> int:
        return int(self.dropped_P.sum())

    @property
    def num_zero_signal(self) -> int:
        return int(self.zero_signal_P.sum())


def build_train_advantages(
    rewards: Sequence[Sequence[float | None]],
    *,
    kind: AdvantageKind,
    min_group: int = 2,
    baseline_ids: Sequence[Sequence[int]] | None = None,
) -> TrainAdvantages:
    """Advantages of ragged groups; a group with fewer than `min_group` scored rollouts is dropped whole.

    Args:
        rewards: one list per group, one entry per rollout slot; None = unscored.
        baseline_ids: as `GroupScore.baseline_ids`, one list per group; an empty one: the whole group shares a baseline.

    Raises:
        ValueError: as `compute_advantages`, or baseline ids that do not fit the rewards.
    """
    num_slots = max((len(group) for group in rewards), default=0)
    rewards_PG = np.full((len(rewards), num_slots), np.nan)
    ids_PG = np.zeros((len(rewards), num_slots), dtype=np.int64)
    for p, group in enumerate(rewards):
        rewards_PG[p, : len(group)] = [np.nan if reward is None else reward for reward in group]
        if baseline_ids is not None and len(baseline_ids[p]) > 0:
            if len(baseline_ids[p]) != len(group):
                raise ValueError(f"group {p} has {len(group)} rewards and {len(baseline_ids[p])} baseline ids")
            ids_PG[p, : len(group)] = baseline_ids[p]

    num_slots_total = sum(len(group) for group in rewards)
    num_scored_P = (~np.isnan(rewards_PG)).sum(axis=1)
    dropped_P = num_scored_P < min_group
    rewards_PG[dropped_P] = np.nan  # a dropped group must not move the batch's scale
    advantages_PG = compute_advantages(rewards_PG, kind=kind, baseline_ids_PG=ids_PG)
    return TrainAdvantages(
        advantages_PG=advantages_PG,
        scored_PG=~np.isnan(rewards_PG),
        dropped_P=dropped_P,
        zero_signal_P=~dropped_P & ~advantages_PG.any(axis=1),
        num_unscored=num_slots_total - int(num_scored_P.sum()),
    )
