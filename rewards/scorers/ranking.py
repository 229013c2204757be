"""Ranking metrics of one list against graded relevance: pure, and exact where a list is short or empty.

Gains are grades, discounts log2(place + 1), as trec_eval and ir-measures have them (Jarvelin and Kekalainen 2002).
`grades` maps the relevant items to grades above 0; an item that is not in it has grade 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import log2


def recall(chosen: Collection[str], grades: Mapping[str, float]) -> float:
    """Share of the relevant items that are chosen; there must be relevant items."""
    return len(set(chosen) & grades.keys()) / len(grades)


def f1(chosen: Collection[str], grades: Mapping[str, float]) -> float:
    """Harmonic mean of recall and precision: 2 hits / (chosen + relevant)."""
    return 2 * len(set(chosen) & grades.keys()) / (len(set(chosen)) + len(grades))


def dcg(grades_in_order: Sequence[float]) -> float:
    """Sum of grade / log2(place + 1), places from 1."""
    return sum(grade / log2(place + 1) for place, grade in enumerate(grades_in_order, start=1))


def ndcg(
    ranking: Sequence[str], grades: Mapping[str, float], k: int, *, ideal_of: Collection[str] | None = None
) -> float | None:
    """DCG of the first k over the best DCG that k items can have.

    Args:
        ideal_of: the ideal ranking is of these items; default: of all. None comes out where none of them is relevant.
    """
    found = [grades.get(name, 0.0) for name in ranking[:k]]
    best = [grade for name, grade in grades.items() if ideal_of is None or name in ideal_of]
    ideal = dcg(sorted(best, reverse=True)[:k])
    return dcg(found) / ideal if ideal > 0 else None


def suffix_gains(ranking: Sequence[str], grades: Mapping[str, float]) -> list[float]:
    """Per place, the discounted gain from there on: what the choice at that place can still be blamed for."""
    gains = [grades.get(name, 0.0) / log2(place + 1) for place, name in enumerate(ranking, start=1)]
    return [sum(gains[place:]) for place in range(len(gains))]
