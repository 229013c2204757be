"""Anchor: everybody meets one member of the group; an anchor that tells nobody apart is switched.

round 0   everybody against the first anchor
round k   everybody who has not met it against the k-th new anchor, if anchor k-1 was not informative enough
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from rewards.topologies.ordering import by_prior, mean_result, members_known, middle_of, pair, seen_from, unplayed
from rewards.topologies.seeding import first_anchor
from rewards.types import Pairing, TournamentState


def informativeness(results: Iterable[float | None]) -> float | None:
    """Share of pairs of opponents whom the anchor tells apart (Mediocrity, arXiv 2603.16848).

    Of the pairs of opponents that both have a verdict against the anchor, those whose verdicts differ:
    1 - sum_v n_v (n_v - 1) / (n (n - 1)), with n_v opponents of n having verdict v. 0 for an anchor that beats
    everybody; near 1/2 for one in the middle without ties, at most n / (2 (n - 1)) then.

    Args:
        results: the anchor's matches, all seen from the anchor or all from the opponents: 1, 0, 0.5; None = missing.

    Returns:
        A share in [0, 1], or None with fewer than two verdicts.
    """
    counts = Counter(result for result in results if result is not None)
    total = counts.total()
    if total < 2:
        return None
    return 1.0 - sum(count * (count - 1) for count in counts.values()) / (total * (total - 1))


class AnchorTopology:
    """N-1 matches against one anchor, more if it has to be switched.

    first: the anchor is slot 0, or the lowest slot that arrived once the group is closed; round 0 streams (ArenaRL,
    arXiv 2601.06487). median: the median by prior score, lots among equals and without scores; waits for everybody.

    When all its matches are played, at least `min_decided` of them have a verdict and they tell fewer than
    `min_informativeness` of the opponents' pairs apart, the anchor is switched (ours): the next one is the median of
    those who were no anchor yet, ordered by their mean result against the anchors (level without a verdict), then by
    prior, then by lot. It meets those whom it has not met. With S switches at most
    (S+1)(N-1) - S(S+1)/2 matches, and never more than N(N-1)/2.

    A missing verdict is a gap: it counts neither for the informativeness nor for the `min_decided`.
    """

    def __init__(
        self,
        anchors: Literal["first", "median"] = "first",
        *,
        min_informativeness: float = 0.35,
        min_decided: int = 4,
        max_switches: int = 1,
    ) -> None:
        self._anchors = anchors
        self._min_informativeness = min_informativeness
        self._min_decided = min_decided
        self._max_switches = max_switches if min_informativeness > 0.0 else 0

    def playable(self, state: TournamentState) -> list[Pairing]:
        known = members_known(state)
        if self._anchors == "first":
            anchor = first_anchor(state)
        else:
            anchor = middle_of(by_prior(state)) if known and state.arrived else None
        if anchor is None:
            return []
        met: dict[int, list[Pairing]] = {i: [] for i in sorted(state.arrived)}
        former: list[int] = []
        while True:
            for i in met:
                if i != anchor and i not in former:
                    meeting = pair(anchor, i, len(former))
                    met[anchor].append(meeting)
                    met[i].append(meeting)
            waiting = unplayed(met[anchor], state.results)
            if waiting or not known:
                return waiting
            former.append(anchor)
            candidates = [i for i in by_prior(state) if i not in former]
            if not candidates or len(former) > self._max_switches or self._informs(anchor, met[anchor], state):
                return []
            standing = {i: mean_result(seen_from(i, m, state.results[m]) for m in met[i]) for i in candidates}
            anchor = middle_of(sorted(candidates, key=lambda i: -standing[i]))

    def max_matches(self, num_candidates: int) -> int:
        """Exact when no switch is possible, otherwise the bound with every switch."""
        possible = self._max_switches if num_candidates > self._min_decided else 0
        switches = max(0, min(possible, num_candidates - 2))
        return (switches + 1) * (num_candidates - 1) - switches * (switches + 1) // 2

    def _informs(self, anchor: int, meetings: list[Pairing], state: TournamentState) -> bool:
        """Whether the anchor is good enough, or has too few verdicts to say."""
        results = [seen_from(anchor, meeting, state.results[meeting]) for meeting in meetings]
        share = informativeness(results)
        decided = sum(result is not None for result in results)
        return share is None or decided < self._min_decided or share >= self._min_informativeness
