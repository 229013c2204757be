"""Borda: the mean share of wins over the opponents one has met (Borda 1781, for pairwise verdicts)."""

from __future__ import annotations

import numpy as np

from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading


class BordaAggregator(GroupAggregator):
    """reward_i = mean over the opponents j that i has met of i's share of the weighted wins against j.

    Every opponent counts once, however often the two met; that is what sets it apart from `win_rate`. Where everybody
    met everybody it is the Borda count divided by N-1. A tie is half a win, a score counts by its sign. There is no
    noise model and no prior.
    """

    def _read(self, votes: GroupVotes) -> Reading:
        met_NN = votes.wins_NN + votes.wins_NN.T
        share_NN = np.divide(votes.wins_NN, met_NN, out=np.zeros_like(met_NN), where=met_NN > 0.0)
        return Reading(share_NN.sum(1) / np.maximum((met_NN > 0.0).sum(1), 1))
