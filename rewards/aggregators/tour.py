"""Tour: the best path through everybody, neighbour beating neighbour (TSPRank, arXiv 2411.12064)."""

from __future__ import annotations

import numpy as np

from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading
from rewards.aggregators.insertion import improve_tour, searched_ranks
from rewards.aggregators.kemeny import rewards_of_ranks
from rewards.aggregators.orders import MAX_EXACT, tour_ranks


class TourAggregator(GroupAggregator):
    """reward_i = 1 - rank_i / (n - 1) along the path that maximises the sum over neighbours of (win share - 1/2).

    Only neighbours count, so it reads less of a full round-robin than `kemeny`. Two who never met are worth nothing to
    each other. Up to 12 candidates it is exact and ranks are the mean over all best paths; beyond, a local search from
    the order of win shares, where candidates that cannot be told apart share their mean rank. There is no noise model.
    """

    def _read(self, votes: GroupVotes) -> Reading:
        met_NN = votes.wins_NN + votes.wins_NN.T
        edges_NN = np.divide(votes.wins_NN, met_NN, out=np.full_like(met_NN, 0.5), where=met_NN > 0.0) - 0.5
        if votes.num_candidates <= MAX_EXACT:
            ranks_N, _ = tour_ranks(edges_NN)
        else:
            ranks_N, _ = searched_ranks(edges_NN, improve_tour)
        return Reading(rewards_of_ranks(ranks_N, votes))
