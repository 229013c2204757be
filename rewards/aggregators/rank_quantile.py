"""Rank quantile: the rank of the win rate, spread evenly over [0, 1] (ArenaRL, arXiv 2601.06487)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.aggregators.win_rate import outcomes_by_candidate
from rewards.types import MatchLog, Prior, Strengths


class RankQuantileAggregator:
    """reward_i = 1 - rank_i / (n - 1) over the n scored, rank 0 for the best win rate; ties share their mean rank.

    All level gives 1/2. Ranks have no noise model: reliability is None. There is no prior.
    """

    def __init__(self, *, min_verdicts: int = 1) -> None:
        self._min_verdicts = min_verdicts

    def fit(self, logs: Sequence[MatchLog], prior: Prior | None = None) -> tuple[list[Strengths], Prior]:
        return [self._fit_group(log) for log in logs], {}

    def _fit_group(self, log: MatchLog) -> Strengths:
        # Win rates are rounded, so that equal records in another order of matches stay equal.
        rates = [
            round(sum(seen) / len(seen), 12) if seen else None
            for seen in outcomes_by_candidate(log, self._min_verdicts)
        ]
        scored = np.array([rate for rate in rates if rate is not None])
        return Strengths([None if rate is None else _quantile(rate, scored) for rate in rates])


def _quantile(rate: float, scored: np.ndarray) -> float:
    beaten = float((scored < rate).sum())
    level = float((scored == rate).sum()) - 1.0
    return (beaten + level / 2.0) / (len(scored) - 1)
