"""Win rate: the mean outcome over the matches that have a verdict (Pref-GRPO, arXiv 2508.20751)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.base import TableAggregator, in_slots
from rewards.aggregators.votes import FloatArray, IntArray, VerdictTable
from rewards.types import Prior, Strengths


class WinRateAggregator(TableAggregator):
    """reward_i = mean over i's matches of the outcome seen from i: both orders merged by their mean, 1/2 for level.

    A `score` outcome counts by its sign only. A match weighs the mean weight of its verdicts. There is no prior.

    reliability = max(0, 1 - V0 / V), with V the variance of the group's win rates and V0 = mean of 1 / (4 num_matches),
    what coin flips would give: a lower bound on the share of V that is signal (ours).
    """

    def _fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None) -> tuple[list[Strengths], Prior]:
        return [self._fit_group(table) for table in tables], {}

    def _fit_group(self, table: VerdictTable) -> Strengths:
        rates = win_rates(table, self._min_verdicts)
        rewards = in_slots(table.num_candidates, rates.candidates_M, rates.rates_M)
        if not len(rates.candidates_M):
            return Strengths(rewards)
        spread = float(rates.rates_M.var())
        coin_flips = float(np.mean(0.25 / rates.num_matches_M))
        return Strengths(rewards, reliability=max(0.0, 1.0 - coin_flips / spread) if spread > 0.0 else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class WinRates:
    """Win rates of the M scored candidates of a group; num_matches_M: their weighted number of matches."""

    candidates_M: IntArray
    rates_M: FloatArray
    num_matches_M: FloatArray


def win_rates(table: VerdictTable, min_verdicts: int) -> WinRates:
    """Mean outcome of every scored candidate's matches; empty where fewer than two are scored."""
    n = table.num_candidates
    num_matches = int(table.match_V.max(initial=-1)) + 1
    first_is_lower_V = table.first_V < table.second_V
    lower_V = np.where(first_is_lower_V, table.first_V, table.second_V)
    higher_V = np.where(first_is_lower_V, table.second_V, table.first_V)
    sign_V = np.where(first_is_lower_V, 1.0, -1.0)
    # Both orders are merged before a score's sign is taken: two verdicts that disagree are weighed against each other.
    seen_V = sign_V * (table.value_V if table.kind == "score" else table.value_V - 0.5)
    verdicts_T = np.bincount(table.match_V, minlength=num_matches)
    weight_T = np.bincount(table.match_V, weights=table.weight_V, minlength=num_matches)
    lead_T = np.bincount(table.match_V, weights=table.weight_V * seen_V, minlength=num_matches)
    played_T = verdicts_T > 0
    lead_T = lead_T[played_T] / weight_T[played_T]
    outcome_T = (np.sign(lead_T) + 1.0) / 2.0 if table.kind == "score" else lead_T + 0.5
    importance_T = weight_T[played_T] / verdicts_T[played_T]
    lower_T, higher_T = np.zeros(num_matches, np.int64), np.zeros(num_matches, np.int64)
    lower_T[table.match_V], higher_T[table.match_V] = lower_V, higher_V
    lower_T, higher_T = lower_T[played_T], higher_T[played_T]
    num_verdicts_N = np.bincount(lower_V, minlength=n) + np.bincount(higher_V, minlength=n)
    matches_N = (np.bincount(lower_T, importance_T, n) + np.bincount(higher_T, importance_T, n)).astype(np.float64)
    wins_N = np.bincount(lower_T, importance_T * outcome_T, n) + np.bincount(
        higher_T, importance_T * (1.0 - outcome_T), n
    )
    slots_M = np.flatnonzero((num_verdicts_N >= min_verdicts) & (num_verdicts_N > 0))
    if len(slots_M) < 2:
        slots_M = slots_M[:0]
    return WinRates(slots_M, wins_N[slots_M] / matches_N[slots_M], matches_N[slots_M])
