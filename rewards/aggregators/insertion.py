"""Local search over orders: one candidate at a time moves to the place where the order gains most (ours).

A move past one neighbour is the adjacent swap; longer moves leave the local optima of swaps. Shapes: N candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rewards.aggregators.canonical import canonical_order
from rewards.aggregators.votes import FloatArray, IntArray

_MAX_ROUNDS = 100
_GAIN = 1e-9


def searched_ranks(
    edges_NN: FloatArray, improve: Callable[[FloatArray, IntArray], IntArray]
) -> tuple[FloatArray, IntArray]:
    """Rank_N (0 is best) in the order_N that a search finds from the order of net edges; names do not matter.

    Those who cannot be told apart share their mean rank: an order must put one of them first.
    """
    # Sums in another order differ in their last digits, and would send the search another way.
    edges_NN = edges_NN.round(9) + 0.0
    canonical_N, alike_N = canonical_order(edges_NN)
    canonical_NN = edges_NN[np.ix_(canonical_N, canonical_N)]
    start_N = np.argsort((canonical_NN.T - canonical_NN).sum(1), kind="stable")
    order_N = canonical_N[improve(canonical_NN, start_N)]
    rank_N = np.argsort(order_N).astype(np.float64)
    return (np.bincount(alike_N, rank_N) / np.bincount(alike_N))[alike_N], order_N


def improve_kemeny(wins_NN: FloatArray, order_N: IntArray) -> IntArray:
    """An order, best first, that no move of a single candidate makes contradict less weight."""
    margin_NN = wins_NN - wins_NN.T
    order = order_N.copy()
    for _ in range(_MAX_ROUNDS):
        moved = False
        for candidate in order_N:
            others = order[order != candidate]
            # Placed before everybody, then past one more each time: passing somebody it beats costs the margin.
            costs = np.append(0.0, np.cumsum(margin_NN[candidate, others]))
            here, best = int(np.flatnonzero(order == candidate)[0]), int(np.argmin(costs))
            if costs[best] < costs[here] - _GAIN:
                order, moved = np.insert(others, best, candidate), True
        if not moved:
            break
    return order


def improve_tour(edges_NN: FloatArray, order_N: IntArray) -> IntArray:
    """An order that no move of a single candidate gives a larger sum of edges between neighbours."""
    order = order_N.copy()
    for _ in range(_MAX_ROUNDS):
        moved = False
        for candidate in order_N:
            others = order[order != candidate]
            before, after = edges_NN[others, candidate], edges_NN[candidate, others]
            cut = np.append(0.0, np.append(edges_NN[others[:-1], others[1:]], 0.0))
            gains = np.append(0.0, before) + np.append(after, 0.0) - cut
            here, best = int(np.flatnonzero(order == candidate)[0]), int(np.argmax(gains))
            if gains[best] > gains[here] + _GAIN:
                order, moved = np.insert(others, best, candidate), True
        if not moved:
            break
    return order
