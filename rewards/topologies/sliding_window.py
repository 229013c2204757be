"""Sliding window: bubble passes from the end of a first order; each carries one more candidate to its place at the top.

pass 1   places N-1|N, N-2|N-1, ..., 1|2     the best reaches place 1
pass 2   places N-1|N, ...,          2|3     the second best reaches place 2
"""

from __future__ import annotations

from typing import Literal

from rewards.topologies.brackets import Line, Side, as_lines
from rewards.topologies.ordering import by_prior, lots, members_known, pair, seen_from
from rewards.types import Pairing, TournamentState


class SlidingWindowTopology:
    """K passes, at most K(N-1) - K(K-1)/2 matches with K <= N-1 (PRP sliding-K, arXiv 2306.17563).

    Each pass is a chain; the next one starts two matches later and is one match shorter, so all K take N+K-2 serial
    rounds at most. Two who met before are not asked again: their verdict is used once more, so the
    count is exact only for K = 1 (N-1). Pass k leaves the k-1 places above it alone. After K passes of a transitive
    judge the K best stand in order; for K = N-1 all do. The rest keep much of the first order.

    First order: `prior` (best prior score first, lots among equals; awaits everybody) or `random` (by lot over all
    slots; a comparison is played as soon as everybody further down the chain has arrived or the group is closed).

    A tie or a missing verdict leaves the two in the order in which they stand; nothing is logged for it.
    """

    def __init__(self, passes: int = 10, seeding: Literal["random", "prior"] = "prior") -> None:
        self._passes = passes
        self._seeding = seeding

    def playable(self, state: TournamentState) -> list[Pairing]:
        return self._replay(state)[0]

    def order(self, state: TournamentState) -> list[Line]:
        """Best first, as far as it is known; pending where it is not, byes for those who never arrived."""
        return self._replay(state)[1]

    def max_matches(self, num_candidates: int) -> int:
        """A bound: verdicts that are used again make it less. Exact for one pass."""
        passes = max(0, min(self._passes, num_candidates - 1))
        return passes * (num_candidates - 1) - passes * (passes - 1) // 2

    def _replay(self, state: TournamentState) -> tuple[list[Pairing], list[Line]]:
        if self._seeding == "prior" and not members_known(state):
            return [], [Side.PENDING] * state.num_candidates
        lines = as_lines(lots(state)[0] if self._seeding == "random" else by_prior(state), state)
        playable: list[Pairing] = []
        for top in range(min(self._passes, len(lines) - 1)):
            for place in reversed(range(top, len(lines) - 1)):
                lines[place : place + 2] = _compare(lines[place], lines[place + 1], state, playable)
        return playable, lines


def _compare(upper: Line, lower: Line, state: TournamentState, playable: list[Pairing]) -> tuple[Line, Line]:
    """The two in their new order; a bye sinks below everybody, so that the others pass it without a match."""
    if upper is Side.BYE or lower is Side.BYE:
        return (lower, upper) if upper is Side.BYE else (upper, lower)
    if isinstance(upper, Side) or isinstance(lower, Side):
        return Side.PENDING, Side.PENDING
    pairing = pair(upper, lower)
    if pairing not in state.results:
        playable.append(pairing)
        return Side.PENDING, Side.PENDING
    lower_won = seen_from(lower, pairing, state.results[pairing]) == 1.0
    return (lower, upper) if lower_won else (upper, lower)
