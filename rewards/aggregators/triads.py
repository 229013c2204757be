"""Circular triads: how often a beats b beats c beats a (Kendall and Babington Smith 1940)."""

from __future__ import annotations

import numpy as np

from rewards.aggregators.votes import VerdictTable


def circular_triad_rate(table: VerdictTable) -> float | None:
    """Of the triples of candidates whose three pairs all have a winner, the share that goes round.

    A pair's winner has more than half of the weighted wins (by the sign, for scores). A coin-flip judge gives 1/4, a
    transitive one 0. With A[i, j] = 1 where i beat j and D = A + A', the counts are trace(A^3) / 3 of trace(D^3) / 6.

    Returns:
        a number in [0, 1], or None where no triple is decided.
    """
    n = table.num_candidates
    cells_V = table.first_V * n + table.second_V
    wins_NN = np.bincount(cells_V, weights=table.weight_V * (table.wins_V - 0.5), minlength=n * n).reshape(n, n)
    lead_NN = wins_NN - wins_NN.T
    beats_NN = (lead_NN > 1e-12).astype(np.float64)
    decided_NN = beats_NN + beats_NN.T
    num_triples = float(np.sum((decided_NN @ decided_NN) * decided_NN)) / 6.0
    if num_triples < 0.5:
        return None
    return float(np.sum((beats_NN @ beats_NN) * beats_NN.T)) / 3.0 / num_triples
