"""How much do matches tell apart? The pairs with different verdicts against a common opponent (arXiv 2603.16848)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np

from rewards.diagnostics.bootstrap import NUM_RESAMPLES, Estimate, estimate, ratio
from rewards.types import GroupScore


def anchor_informativeness(
    scores: Sequence[GroupScore],
    anchors: int | Sequence[int],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Of the pairs of rollouts that both met the anchor, those with different verdicts (win, tie, loss) against it.

    An anchor that beats everybody says 0, one that beats half of many about 1/2. Under 0.35 another anchor is worth
    trying. Bootstrap over groups.

    Args:
        anchors: the anchor's slot, one for all groups or one per group.
    """
    slots = [anchors] * len(scores) if isinstance(anchors, int) else anchors
    results = [_results(score) for score in scores]
    counts = [_different(met[slot]) for met, slot in zip(results, slots, strict=True)]
    return _estimate(counts, seed, num_resamples)


def informativeness(scores: Sequence[GroupScore], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Estimate:
    """The same for a whole set of matches: every rollout is an anchor for the pairs that both met it.

    A complete order gives 1/3, coin flips 1/2 (circles look informative: read it beside `circular_triad_rate`), ties 0.
    """
    counts = [tuple(map(sum, zip((0, 0), *map(_different, _results(score).values()), strict=True))) for score in scores]
    return _estimate(counts, seed, num_resamples)


def _results(score: GroupScore) -> defaultdict[int, dict[int, float]]:
    """results[i][j]: 1 if i won against j, 0.5 tied, 0 lost; several matches of the same two by their mean's side."""
    leads: defaultdict[tuple[int, int], float] = defaultdict(float)
    for match in score.matches:
        result = match.result(score.kind) if score.kind is not None else None
        if result is not None:
            leads[match.pairing.a, match.pairing.b] += result - 0.5
    results: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for (a, b), lead in leads.items():
        results[a][b] = (np.sign(lead) + 1.0) / 2.0
        results[b][a] = 1.0 - results[a][b]
    return results


def _different(verdicts: dict[int, float]) -> tuple[int, int]:
    """Pairs with different verdicts, and all pairs."""
    met = len(verdicts)
    same = sum(count * (count - 1) // 2 for count in Counter(verdicts.values()).values())
    pairs = met * (met - 1) // 2
    return pairs - same, pairs


def _estimate(counts: Sequence[tuple[int, ...]], seed: int, num_resamples: int) -> Estimate:
    sums_G2 = np.fromiter(chain.from_iterable(counts), dtype=np.float64).reshape(-1, 2)
    return estimate(sums_G2, ratio, bounds=(0.0, 1.0), seed=seed, num_resamples=num_resamples)
