"""Does the judge contradict itself? Verdicts that go round: a beats b beats c beats a.

Shapes: N candidates of a group.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators.votes import verdict_table
from rewards.diagnostics.bootstrap import NUM_RESAMPLES, Estimate, estimate, ratio
from rewards.health import Rate
from rewards.types import GroupScore, MatchLog

BoolArray = NDArray[np.bool_]


def winners(score: GroupScore) -> BoolArray:
    """beats_NN[i, j]: i has more than half of the weighted verdicts between the two; a score counts by its sign."""
    n = len(score.rewards)
    table = verdict_table(MatchLog(n, score.kind or "hard", score.matches, rankings=score.rankings))
    cells_V = table.first_V * n + table.second_V
    lead_NN = np.bincount(cells_V, table.weight_V * (table.wins_V - 0.5), minlength=n * n).reshape(n, n)
    return lead_NN - lead_NN.T > 1e-12


def triads(beats_NN: BoolArray) -> tuple[int, int]:
    """Circular triads, and triples whose three pairs are all decided: trace(A^3) / 3 and trace((A + A')^3) / 6."""
    wins_NN = beats_NN.astype(np.float64)
    decided_NN = wins_NN + wins_NN.T
    circular = np.sum((wins_NN @ wins_NN) * wins_NN.T) / 3.0
    return round(float(circular)), round(float(np.sum((decided_NN @ decided_NN) * decided_NN)) / 6.0)


def circular_triad_rate(scores: Iterable[GroupScore], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Estimate:
    """Of all decided triples of all groups, the share that goes round: 0 for a transitive judge, 1/4 for coin flips.

    Counts after Kendall and Babington Smith (1940); bootstrap over groups.
    """
    counts = [triads(winners(score)) for score in scores]
    sums_G2 = np.array(counts, dtype=np.float64).reshape(-1, 2)
    return estimate(sums_G2, ratio, bounds=(0.0, 1.0), seed=seed, num_resamples=num_resamples)


def consistence(scores: Iterable[GroupScore], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Estimate:
    """Kendall's coefficient of consistence, zeta = 1 - T / T_max, over groups of 3 and more with every pair decided.

    T_max is the most circular triads that N candidates can have: (N^3 - N) / 24 for odd N, (N^3 - 4N) / 24 for even. T
    and T_max are summed over groups before dividing, so that a group counts by what it could show.
    """
    sums: list[tuple[float, float]] = []
    for score in scores:
        beats_NN = winners(score)
        n = len(beats_NN)
        if n >= 3 and int(beats_NN.sum()) == n * (n - 1) // 2:
            most = (n**3 - (n if n % 2 else 4 * n)) / 24.0
            sums.append((most - triads(beats_NN)[0], most))
    sums_G2 = np.array(sums, dtype=np.float64).reshape(-1, 2)
    return estimate(sums_G2, ratio, bounds=(0.0, 1.0), seed=seed, num_resamples=num_resamples)


def conflict_rate(scores: Iterable[GroupScore]) -> Rate:
    """CDR (arXiv 2510.15514): groups whose winners go round in a circle of any length, of the groups that could.

    A group could where its decided pairs, read without direction, close a circle; a knockout never does. Two orders
    that disagree are no circle here, they are `order_flip_rate`. The interval is `Rate.interval`.
    """
    conflicts = total = 0
    for score in scores:
        beats_NN = winners(score)
        if _closes(beats_NN | beats_NN.T, least=2):
            total += 1
            conflicts += _closes(beats_NN, least=1)
    return Rate(conflicts, total)


def _closes(edges_NN: BoolArray, *, least: int) -> bool:
    """Is anything left once candidates with fewer than `least` edges out are taken away, again and again?"""
    left_N = np.ones(len(edges_NN), dtype=np.bool_)
    while left_N.any():
        ends_N = left_N & ((edges_NN & left_N).sum(-1) < least)
        if not ends_N.any():
            return True
        left_N &= ~ends_N
    return False
