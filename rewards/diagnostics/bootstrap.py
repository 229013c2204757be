"""Intervals for figures that are functions of sums over groups, by drawing groups again.

Verdicts of one group share its prompt and its rollouts, so groups, not verdicts, are what is drawn.
Shapes: G groups, K sums, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.votes import FloatArray

NUM_RESAMPLES = 1000

_DRAWN_AT_ONCE = 4_000_000
"""Counts in one array: 32 MB."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure over groups and its interval; value is None where no group says anything.

    num_groups: groups that say something. With fewer than two the interval is the figure's whole range.
    """

    value: float | None
    low: float
    high: float
    num_groups: int

    def metrics(self, name: str) -> dict[str, float]:
        """`name`, `name_low` and `name_high`; nothing where there is no value."""
        return {} if self.value is None else {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def estimate(
    sums_GK: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    bounds: tuple[float, float],
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
) -> Estimate:
    """A statistic of the groups' summed rows, with its percentile bootstrap interval (Efron, Tibshirani 1993, ch. 13).

    A figure that is the same in every group has an interval of width 0: the bootstrap knows only what it has seen.

    Args:
        sums_GK: what each group adds; a group that adds only zeros says nothing and is not drawn.
        statistic: sums of shape [..., K] to figures of shape [...]; NaN where the sums give none.
        bounds: range of the figure.
    """
    sums_GK = sums_GK[np.any(sums_GK != 0.0, axis=-1)]
    num_groups = len(sums_GK)
    value = float(statistic(sums_GK.sum(0))) if num_groups else np.nan
    if np.isnan(value):
        return Estimate(None, *bounds, num_groups)
    value = float(np.clip(value, *bounds))
    if num_groups < 2:
        return Estimate(value, *bounds, num_groups)
    rng = np.random.default_rng(seed)
    rows = max(1, _DRAWN_AT_ONCE // num_groups)
    drawn: list[FloatArray] = []
    for start in range(0, num_resamples, rows):
        size = min(rows, num_resamples - start)
        counts_RG = rng.multinomial(num_groups, np.full(num_groups, 1.0 / num_groups), size=size)
        drawn.append(statistic(counts_RG @ sums_GK))
    figures_R = np.concatenate(drawn)
    figures_R = figures_R[np.isfinite(figures_R)]
    if not len(figures_R):
        return Estimate(value, *bounds, num_groups)
    tail = (1.0 - confidence) / 2.0
    low, high = np.clip(np.quantile(figures_R, [tail, 1.0 - tail]), *bounds)
    return Estimate(value, float(low), float(high), num_groups)


def ratio(sums: FloatArray) -> FloatArray:
    """First sum over the second; NaN where the second is 0."""
    share, whole = sums[..., 0], sums[..., 1]
    return np.where(whole > 0.0, share / np.where(whole > 0.0, whole, 1.0), np.nan)
