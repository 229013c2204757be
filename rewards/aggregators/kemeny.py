"""Kemeny: the order that contradicts the least weight of verdicts (Kemeny 1959)."""

from __future__ import annotations

import numpy as np

from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading
from rewards.aggregators.insertion import improve_kemeny, searched_ranks
from rewards.aggregators.orders import MAX_EXACT, kemeny_ranks
from rewards.aggregators.votes import FloatArray, IntArray


class KemenyAggregator(GroupAggregator):
    """reward_i = 1 - rank_i / (n - 1) among the n scored. There is no noise model.

    The majority graph is cut first: where everybody of one part beats everybody of the next, each part is ordered by
    itself, and no optimal order is lost (Truchon 1998). A part of at most 12 is exact and its ranks are the mean over
    all its optimal orders, so level candidates come out level. A larger part is a local search from the order of net
    wins, a good order but not proven best; candidates that cannot be told apart share their mean rank there.
    feedback_weight: the share of the verdicts' weight that the order contradicts (its feedback arcs; a tie is half a
    win for both and contradicts nothing that another order would not).
    """

    def _read(self, votes: GroupVotes) -> Reading:
        ranks_N, contradicted = kemeny_order(votes.wins_NN)
        # A verdict that is a tie puts half its weight against any order: that half is no feedback.
        total, ties = votes.wins_NN.sum(), votes.ties_NN.sum() / 2.0
        feedback = max(0.0, contradicted - ties / 2.0) / total if total > 0.0 else 0.0
        return Reading(rewards_of_ranks(ranks_N, votes), feedback_weight=float(feedback))


def kemeny_order(wins_NN: FloatArray) -> tuple[FloatArray, float]:
    """Mean rank_N, 0 for the best, and the weight that the order contradicts."""
    ranks_N, contradicted = np.zeros(len(wins_NN)), 0.0
    parts = majority_parts(wins_NN)
    start = 0
    for number, part_P in enumerate(parts):
        inside_PP = wins_NN[np.ix_(part_P, part_P)]
        later = [slot for later_part in parts[number + 1 :] for slot in later_part]
        contradicted += float(wins_NN[np.ix_(later, part_P)].sum()) if later else 0.0
        if len(part_P) <= MAX_EXACT:
            ranks_P, inside = kemeny_ranks(inside_PP)
        else:
            ranks_P, inside = _searched(inside_PP)
        ranks_N[part_P] = start + ranks_P
        contradicted += inside
        start += len(part_P)
    return ranks_N, contradicted


def majority_parts(wins_NN: FloatArray) -> list[IntArray]:
    """The strongly connected parts of "does not lose to", best part first: between two parts everybody wins."""
    from scipy.sparse.csgraph import connected_components

    holds_NN = wins_NN >= wins_NN.T - 1e-9
    count, label_N = connected_components(holds_NN, directed=True, connection="strong")
    # Between parts the relation is a total order: who is in a better part beats more candidates of other parts.
    beaten_N = (~holds_NN).sum(0)
    parts = [np.flatnonzero(label_N == label) for label in range(count)]
    return sorted(parts, key=lambda part_P: -float(np.mean(beaten_N[part_P] - (~holds_NN).sum(1)[part_P])))


def _searched(wins_PP: FloatArray) -> tuple[FloatArray, float]:
    # Orders differ by the margins only, so that a win each is as good as no verdict.
    ranks_P, order_P = searched_ranks((wins_PP - wins_PP.T) / 2.0, improve_kemeny)
    later_PP = np.triu(np.ones_like(wins_PP), 1).astype(bool)
    return ranks_P, float(wins_PP[np.ix_(order_P, order_P)].T[later_PP].sum())


def rewards_of_ranks(ranks_N: FloatArray, votes: GroupVotes) -> FloatArray:
    """1 for the best scored candidate, 0 for the last; candidates that are not scored leave no gap."""
    scored_N = votes.scored_N
    below_NN = (ranks_N[:, None] < ranks_N[None, :] - 1e-9) + 0.5 * (
        np.abs(ranks_N[:, None] - ranks_N[None, :]) <= 1e-9
    )
    if scored_N.all():
        return 1.0 - ranks_N / (len(ranks_N) - 1)
    return (below_NN[:, scored_N].sum(1) - 0.5) / max(1, int(scored_N.sum()) - 1)
