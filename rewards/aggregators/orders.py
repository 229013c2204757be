"""Best orders by dynamic programming over subsets: every optimal order counted, so that level candidates share ranks.

The cost of an order is a sum over its places of cost(set of those before, last of them, next one). Two such costs:

    Kemeny  what the next one loses against everybody before it            depends on the set
    tour    minus what the last one scores against the next one            depends on the last one

Shapes: N candidates, at most 12; S = 2^N subsets as bit masks.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregators.votes import FloatArray, IntArray

MAX_EXACT = 12
_SAME = 1e-9
"""Costs closer than this, relative to 1 + the total weight, are one cost."""


def kemeny_ranks(wins_NN: FloatArray) -> tuple[FloatArray, float]:
    """Mean rank_N (0 is best) over all orders that contradict the least weight, and that weight.

    Args:
        wins_NN: weighted wins of the row over the column.
    """
    n = len(wins_NN)
    masks_S, sizes_S = _subsets(n)
    # against_SN[S, i]: the weight by which i beats members of S, contradicted where i comes after them.
    against_SN = _members(masks_S, n) @ wins_NN.T
    slack = _SAME * (1.0 + wins_NN.sum())
    before_S, ways_S = _forward(against_SN, sizes_S, slack)
    after_S, rest_S = _backward(against_SN, sizes_S, slack)
    best = float(before_S[-1])
    ranks_N = np.zeros(n)
    for i in range(n):
        without_T = masks_S[(masks_S >> i) & 1 == 0]
        total_T = before_S[without_T] + against_SN[without_T, i] + after_S[without_T | 1 << i]
        ways_T = np.where(total_T <= best + slack, ways_S[without_T] * rest_S[without_T | 1 << i], 0.0)
        ranks_N[i] = (ways_T @ sizes_S[without_T]) / ways_T.sum()
    return ranks_N, best


def _forward(cost_SN: FloatArray, sizes_S: IntArray, slack: float) -> tuple[FloatArray, FloatArray]:
    """Least cost to have placed exactly S, and in how many orders."""
    n = cost_SN.shape[1]
    least_S, ways_S = np.full(len(cost_SN), np.inf), np.zeros(len(cost_SN))
    least_S[0], ways_S[0] = 0.0, 1.0
    for size in range(1, n + 1):
        level_T = np.flatnonzero(sizes_S == size)
        cost_TN, ways_TN = np.full((len(level_T), n), np.inf), np.zeros((len(level_T), n))
        for i in range(n):
            row_T = np.flatnonzero(level_T >> i & 1)
            without_T = level_T[row_T] ^ 1 << i
            cost_TN[row_T, i], ways_TN[row_T, i] = least_S[without_T] + cost_SN[without_T, i], ways_S[without_T]
        least_S[level_T] = cost_TN.min(1)
        ways_S[level_T] = np.where(cost_TN <= least_S[level_T, None] + slack, ways_TN, 0.0).sum(1)
    return least_S, ways_S


def _backward(cost_SN: FloatArray, sizes_S: IntArray, slack: float) -> tuple[FloatArray, FloatArray]:
    """Least cost to place all that are not in S after it, and in how many orders."""
    n = cost_SN.shape[1]
    least_S, ways_S = np.full(len(cost_SN), np.inf), np.zeros(len(cost_SN))
    least_S[-1], ways_S[-1] = 0.0, 1.0
    for size in range(n - 1, -1, -1):
        level_T = np.flatnonzero(sizes_S == size)
        cost_TN, ways_TN = np.full((len(level_T), n), np.inf), np.zeros((len(level_T), n))
        for i in range(n):
            row_T = np.flatnonzero(level_T >> i & 1 == 0)
            from_T = level_T[row_T]
            with_T = from_T | 1 << i
            cost_TN[row_T, i], ways_TN[row_T, i] = cost_SN[from_T, i] + least_S[with_T], ways_S[with_T]
        least_S[level_T] = cost_TN.min(1)
        ways_S[level_T] = np.where(cost_TN <= least_S[level_T, None] + slack, ways_TN, 0.0).sum(1)
    return least_S, ways_S


def tour_ranks(edges_NN: FloatArray) -> tuple[FloatArray, float]:
    """Mean rank_N (0 is best) over all paths through everybody of the largest sum of edges, and that sum.

    Args:
        edges_NN: what it is worth to put the column right after the row.
    """
    n = len(edges_NN)
    masks_S, sizes_S = _subsets(n)
    slack = _SAME * (1.0 + np.abs(edges_NN).sum())
    head_SN, ways_SN = _paths(edges_NN, masks_S, sizes_S, slack)
    tail_SN, rest_SN = _paths(edges_NN.T, masks_S, sizes_S, slack)
    best = float(head_SN[-1].max())
    ranks_N = np.zeros(n)
    everybody = masks_S[-1]
    for i in range(n):
        with_T = masks_S[(masks_S >> i) & 1 == 1]
        # A path that i ends, and one through the others that i starts, read backwards.
        after_T = everybody ^ with_T | 1 << i
        total_T = head_SN[with_T, i] + tail_SN[after_T, i]
        ways_T = np.where(total_T >= best - slack, ways_SN[with_T, i] * rest_SN[after_T, i], 0.0)
        ranks_N[i] = (ways_T @ (sizes_S[with_T] - 1)) / ways_T.sum()
    return ranks_N, best


def _paths(edges_NN: FloatArray, masks_S: IntArray, sizes_S: IntArray, slack: float) -> tuple[FloatArray, FloatArray]:
    """Largest sum of a path through exactly S that ends in i, and how many reach it."""
    n = len(edges_NN)
    most_SN, ways_SN = np.full((len(masks_S), n), -np.inf), np.zeros((len(masks_S), n))
    most_SN[1 << np.arange(n), range(n)] = 0.0
    ways_SN[1 << np.arange(n), range(n)] = 1.0
    for size in range(2, n + 1):
        level_T = np.flatnonzero(sizes_S == size)
        for i in range(n):
            with_T = level_T[(level_T >> i) & 1 == 1]
            sums_TN = most_SN[with_T ^ 1 << i] + edges_NN[:, i]
            most_T = sums_TN.max(1)
            most_SN[with_T, i] = most_T
            counted_TN = np.where(sums_TN >= most_T[:, None] - slack, ways_SN[with_T ^ 1 << i], 0.0)
            ways_SN[with_T, i] = counted_TN.sum(1)
    return most_SN, ways_SN


def _subsets(n: int) -> tuple[IntArray, IntArray]:
    if n > MAX_EXACT:
        raise ValueError(f"exact orders are for at most {MAX_EXACT} candidates, got {n}")
    masks_S = np.arange(1 << n)
    return masks_S, _members(masks_S, n).sum(1).astype(np.int64)


def _members(masks_S: IntArray, n: int) -> FloatArray:
    return (masks_S[:, None] >> np.arange(n) & 1).astype(np.float64)
