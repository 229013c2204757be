"""Is the judge well? Rates over match logs, with intervals.

A call that ranked K counts as one call, and in the rates of verdicts as its K (K - 1) / 2 pairs: who was shown earlier
is the first of a pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

from rewards.types import GroupScore, Pairing, Slate


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `total`; value is None where there is nothing to count."""

    count: int
    total: int

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Wilson's score interval (Wilson 1927); (0, 1) where there is nothing to count."""
        return wilson_interval(self.count, self.total, confidence)


def wilson_interval(count: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (Wilson 1927) of a share; (0, 1) where there is nothing to count.

    Ties may count one half: they vary less than wins and losses, so the interval is then a little too wide.
    """
    if not total:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    p = count / total
    spread = z * (p * (1.0 - p) / total + z * z / (4.0 * total**2)) ** 0.5
    middle, norm = p + z * z / (2.0 * total), 1.0 + z * z / total
    return max(0.0, (middle - spread) / norm), min(1.0, (middle + spread) / norm)


def order_flip_rate(scores: Iterable[GroupScore]) -> Rate:
    """Matches whose two orders name different winners, of those with a verdict of one judge in both orders.

    A tie names nobody. Each judge of a match counts for itself. A slate that was shown in two orders counts by those of
    its pairs that the two show in different orders.
    """
    flips = total = 0
    for score in scores:
        leans: dict[tuple[Pairing | Slate, str, frozenset[int]], dict[int, int]] = {}
        for about, judge, first, second, lean in _leans(score):
            leans.setdefault((about, judge, frozenset((first, second))), {})[first] = lean
        for of_judge in leans.values():
            if len(of_judge) == 2:
                one, other = of_judge.values()
                total += 1
                flips += one * other > 0  # The same seat won both times.
    return Rate(flips, total)


def tie_rate(scores: Iterable[GroupScore]) -> Rate:
    """Verdicts that name no winner, of all verdicts."""
    leans = [lean for score in scores for *_, lean in _leans(score)]
    return Rate(leans.count(0), len(leans))


def first_seat_rate(scores: Iterable[GroupScore]) -> Rate:
    """Verdicts for the candidate shown first, of those that name a winner; 1/2 for a judge without a lean."""
    leans = [lean for score in scores for *_, lean in _leans(score)]
    return Rate(leans.count(1), len(leans) - leans.count(0))


def failure_rate(scores: Iterable[GroupScore]) -> Rate:
    """Calls without a verdict, of all calls."""
    groups = list(scores)
    return Rate(sum(score.num_failed for score in groups), sum(score.num_calls for score in groups))


def judge_health(scores: Iterable[GroupScore], *, intervals: bool = False) -> dict[str, float]:
    """Metrics of a batch: order_flip_rate, tie_rate, first_seat_rate, failure_rate, num_calls, failures by cause.

    num_spared, if any, counts the verdicts of a router, for which no judge was called; they are in no other figure.
    Rates without anything to count are left out. `intervals` adds `<rate>_low` and `<rate>_high` at 95 %.
    """
    groups = list(scores)
    metrics: dict[str, float] = {"num_calls": float(sum(score.num_calls for score in groups))}
    calls = (call for score in groups for match in score.matches for call in match.calls)
    if spared := sum(call.is_routed for call in calls):
        metrics["num_spared"] = float(spared)
    for rate_of in (order_flip_rate, tie_rate, first_seat_rate, failure_rate):
        rate = rate_of(groups)
        if rate.value is not None:
            metrics[rate_of.__name__] = rate.value
            if intervals:
                metrics[f"{rate_of.__name__}_low"], metrics[f"{rate_of.__name__}_high"] = rate.interval()
    for cause in sorted({cause for score in groups for cause in score.failures}):
        metrics[f"num_failed_{cause}"] = float(sum(score.failures.get(cause, 0) for score in groups))
    return metrics


def _leans(score: GroupScore) -> Iterator[tuple[Pairing | Slate, str, int, int, int]]:
    """Match or slate, judge, who was shown first and second, and the lean: 1 to the first, -1 the second, 0 neither."""
    level = 0.0 if score.kind == "score" else 0.5
    for match in score.matches:
        for call in match.calls:
            value = call.verdict.value
            if value is not None and not call.is_routed:
                yield match.pairing, call.judge, call.first, call.second, (value > level) - (value < level)
    for ranking in score.rankings:
        placed = zip(ranking.shown, ranking.places or (), strict=ranking.places is not None)
        for (first, place), (second, other) in combinations(placed, 2):
            yield ranking.slate, ranking.judge, first, second, (place < other) - (place > other)
