"""Rank quantile: the rank of the win rate, spread evenly over [0, 1] (ArenaRL, arXiv 2601.06487)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.aggregators.base import TableAggregator, in_slots
from rewards.aggregators.votes import FloatArray, VerdictTable
from rewards.aggregators.win_rate import win_rates
from rewards.types import Prior, Strengths


class RankQuantileAggregator(TableAggregator):
    """reward_i = 1 - rank_i / (n - 1) over the n scored, rank 0 for the best win rate; ties share their mean rank.

    All level gives 1/2. Ranks have no noise model: reliability is None. There is no prior.
    """

    def _fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None) -> tuple[list[Strengths], Prior]:
        return [self._fit_group(table) for table in tables], {}

    def _fit_group(self, table: VerdictTable) -> Strengths:
        rates = win_rates(table, self._min_verdicts)
        return Strengths(in_slots(table.num_candidates, rates.candidates_M, rank_quantiles(rates.rates_M)))


def rank_quantiles(values_M: FloatArray) -> FloatArray:
    """Ranks spread over [0, 1], 1 for the largest; ties share their mean, values equal up to rounding are ties."""
    if len(values_M) < 2:
        return values_M
    rounded_M = values_M.round(12)
    sorted_M = np.sort(rounded_M)
    beaten_M, not_better_M = (np.searchsorted(sorted_M, rounded_M, side) for side in ("left", "right"))
    return (beaten_M + not_better_M - 1) / 2.0 / (len(values_M) - 1)
