"""Borda: the mean share of wins over the opponents one has met (Borda 1781, for pairwise verdicts)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rewards.aggregators.base import TableAggregator, in_slots
from rewards.aggregators.votes import VerdictTable, collect_votes, scored_candidates
from rewards.types import Prior, Strengths


class BordaAggregator(TableAggregator):
    """reward_i = mean over the opponents j that i has met of i's share of the weighted wins against j.

    Every opponent counts once, however often the two met; that is what sets it apart from `win_rate`. Where everybody
    met everybody it is the Borda count divided by N-1. A tie is half a win, a score counts by its sign. There is no
    noise model and no prior.
    """

    def _fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None) -> tuple[list[Strengths], Prior]:
        return [self._fit_group(table) for table in tables], {}

    def _fit_group(self, table: VerdictTable) -> Strengths:
        votes = collect_votes(replace(table, value_V=table.wins_V, kind="hard"))
        scored_N = scored_candidates(votes.num_verdicts_N, self._min_verdicts)
        met_NN = votes.counts_NN + votes.counts_NN.T
        won_NN = votes.values_NN + (votes.counts_NN - votes.values_NN).T
        share_NN = np.divide(won_NN, met_NN, out=np.zeros_like(won_NN), where=met_NN > 0.0)
        rewards_N = share_NN.sum(1) / np.maximum((met_NN > 0.0).sum(1), 1)
        return Strengths(in_slots(table.num_candidates, votes.candidates_N[scored_N], rewards_N[scored_N]))
