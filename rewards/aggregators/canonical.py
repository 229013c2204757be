"""An order of the candidates that their names do not enter, and who cannot be told apart (colour refinement).

    level --> coloured by what everybody meets, again and again, until no colour splits (Weisfeiler and Leman 1968)
          --> one of the first colour that several still share is set before the others, and so on, until all differ

Several of one colour are nearly always the same up to names, and then it does not matter who is set first. Beyond 64
candidates, where this would take its time, those of one colour follow one another by slot.
Shapes: N candidates.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregators.votes import FloatArray, IntArray

_MOST_SPLIT = 64
"""Largest group of which colours are split one by one: with thousands of items `podium rank` would wait for minutes."""


def canonical_order(edges_NN: FloatArray) -> tuple[IntArray, IntArray]:
    """The order_N, and colour_N: equal where two cannot be told apart.

    Args:
        edges_NN: rounded, so that what is equal is exactly equal.
    """
    n = len(edges_NN)
    pairs_L2 = np.stack([edges_NN, edges_NN.T], axis=-1).reshape(-1, 2)
    pair_NN = np.unique(pairs_L2, axis=0, return_inverse=True)[1].reshape(n, n)
    colour_N = alike_N = _refined(pair_NN, np.zeros(n, np.int64))
    while colour_N.max() < n - 1 and n <= _MOST_SPLIT:
        shared = int(np.argmax(np.bincount(colour_N) > 1))
        split_N = 2 * colour_N + 1
        split_N[int(np.argmax(colour_N == shared))] -= 1
        colour_N = _refined(pair_NN, split_N)
    return np.argsort(colour_N, kind="stable"), alike_N


def _refined(pair_NN: IntArray, colour_N: IntArray) -> IntArray:
    """Colours 0, 1, ... in the order of those given, split until all of one colour have the same pairs with others."""
    count = 0
    while True:
        met_NN = np.sort(pair_NN * (colour_N.max() + 1) + colour_N, axis=1)
        seen = np.column_stack([colour_N, met_NN])
        colour_N = np.unique(seen, axis=0, return_inverse=True)[1].reshape(-1)
        if colour_N.max() + 1 == count:
            return colour_N
        count = colour_N.max() + 1
