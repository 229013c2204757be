"""Several rewards per rollout, each normalised by itself and then mixed (GDPO, arXiv 2601.05242).

Shapes: P prompts (groups), G rollout slots, C criteria.

    A_c = the kind's advantage of criterion c inside its group;   A = sum_c weight_c A_c;   then whitened over the batch

A criterion with small numbers, or one that nearly all rollouts meet, then counts as much as its weight says; summed
raw rewards let the widest one decide. Without the whitening, A's size grows with the number of criteria.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rl.advantages import Float64Array, compute_advantages
from rl.objective_config import AdvantageKind


def mix_criteria(
    rewards_PGC: npt.ArrayLike,
    weights_C: npt.ArrayLike,
    *,
    kind: AdvantageKind = "mean_std",
    baseline_ids_PG: npt.ArrayLike | None = None,
    whiten: bool = True,
) -> Float64Array:
    """advantages_PG; 0 where a rollout is unscored by every criterion.

    Args:
        rewards_PGC: raw, NaN = unscored by that criterion: such a rollout is no part of its mean and std, and gets
            nothing from it.
        kind: of each criterion by itself.
        whiten: bring the mix to mean 0 and std 1 over all scored rollouts of the batch, which then must be complete.

    Raises:
        ValueError: as `compute_advantages`, or weights that do not fit.
    """
    rewards = np.asarray(rewards_PGC, dtype=np.float64)
    weights = np.asarray(weights_C, dtype=np.float64)
    if rewards.ndim != 3 or weights.shape != rewards.shape[2:]:
        raise ValueError(f"rewards have shape {rewards.shape} and weights {weights.shape}, not [P, G, C] and [C]")
    mixed_PG = compute_advantages(rewards, kind=kind, baseline_ids_PG=baseline_ids_PG) @ weights
    if not whiten:
        return mixed_PG
    scored_PG = ~np.isnan(rewards).all(axis=2)
    return compute_advantages(np.where(scored_PG, mixed_PG, np.nan), kind="whiten")
