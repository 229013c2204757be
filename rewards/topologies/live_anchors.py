"""Live anchors: newcomers meet the best, the median and the worst of those placed so far.

wave 0   ranks 0..2      meet each other                                              3 matches
wave 1   ranks 3..5      meet best, median and worst of ranks 0..2                    3 each
wave 2   ranks 6..11     meet best, median and worst of ranks 0..5, and so on: the placed double with every wave
"""

from __future__ import annotations

from itertools import combinations

from rewards.topologies.ordering import by_lot, mean_result, members_known, middle_of, pair, seen_from, unplayed
from rewards.types import Pairing, TournamentState


class LiveAnchorTopology:
    """3N-6 matches for N >= 3, one for N = 2, in 1 + ceil(log2(N/3)) serial rounds (Reasoning Arena, arXiv 2606.09380).

    The source updates the anchors with every trace that finishes. Here they are chosen again before every wave (ours):
    a topology does not know which matches are in flight, so whom a newcomer meets may depend only on results that
    cannot change while it plays. Waves go by slot and stream in that order: a wave starts when all slots before it
    have arrived and played. Once the group is closed, absent slots are skipped.

    The placed are ordered by their mean result, lots among equals. A missing verdict is a gap: it does not count in
    the mean, and somebody without any verdict stands at level.
    """

    def playable(self, state: TournamentState) -> list[Pairing]:
        order = sorted(state.arrived) if members_known(state) else list(range(state.num_candidates))
        meetings: list[Pairing] = []
        start, stop, wave = 0, 3, 0
        while start < len(order):
            members = [i for i in order[start:stop] if i in state.arrived]
            if wave == 0:
                new = [pair(i, j) for i, j in combinations(members, 2)]
            else:
                anchors = _anchors(state, order[:start], meetings)
                new = [pair(i, anchor, wave) for i in members for anchor in anchors]
            waiting = unplayed(new, state.results)
            if waiting or len(members) < len(order[start:stop]):
                return waiting
            meetings += new
            start, stop, wave = stop, 2 * stop, wave + 1
        return []

    def max_matches(self, num_candidates: int) -> int:
        """Exact."""
        return 3 * num_candidates - 6 if num_candidates >= 3 else num_candidates - 1


def _anchors(state: TournamentState, placed: list[int], meetings: list[Pairing]) -> tuple[int, int, int]:
    seen: dict[int, list[float | None]] = {i: [] for i in placed}
    for meeting in meetings:
        for i in (meeting.a, meeting.b):
            seen[i].append(seen_from(i, meeting, state.results[meeting]))
    # Not by prior: the scores of those who arrive later would change the order of those in play.
    order = sorted((i for i in by_lot(state) if i in seen), key=lambda i: -mean_result(seen[i]))
    return order[0], middle_of(order), order[-1]
