"""Brackets with real byes, replayed from the results: single and double elimination share them.

seeds of 6 in a bracket of 8:   1 --bye--+            The seeds that are missing are the worst ones,
                                4 -- 5 --+--+         so the best seeds have the byes and the two
                                2 --bye--+  +-- final best cannot meet before the final.
                                3 -- 6 --+--+

A line of a bracket is a candidate, PENDING (a match not played, or a slot that may still arrive) or BYE (nobody). A
match needs two candidates; against a bye one advances without a match. So every real match costs exactly one candidate
one life, and the number of matches is fixed for any field, whoever is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from rewards.topologies.ordering import pair, seen_from
from rewards.types import Pairing, TournamentState


class Side(Enum):
    """A line that is not (yet) a candidate."""

    BYE = 0
    PENDING = 1


Line = int | Side


def bracket_order(size: int) -> list[int]:
    """Seeds (0 = best) of a bracket of `size` places, a power of two, in the order of its lines.

    Neighbours meet in round 1: size 8 gives [0, 7, 3, 4, 1, 6, 2, 5].
    """
    order = [0]
    while len(order) < size:
        last = 2 * len(order) - 1
        order = [seed for better in order for seed in (better, last - better)]
    return order


def num_rounds(num_candidates: int) -> int:
    """ceil(log2 N), in integers; 0 for nobody or one."""
    return max(0, num_candidates - 1).bit_length()


def as_lines(slots: Sequence[int], state: TournamentState) -> list[Line]:
    """Slots as lines: who has not arrived is pending until the group is closed, then a bye."""
    absent = Side.BYE if state.closed else Side.PENDING
    return [slot if slot in state.arrived else absent for slot in slots]


class Bracket:
    """One replay of a bracket: plays what has a result and collects in `playable` what can be played now.

    A tie or a missing verdict lets the better seed advance; nothing is logged for it.

    Args:
        seeds: best seed first; slots that have not arrived may be among them.
    """

    def __init__(self, seeds: Sequence[int], state: TournamentState) -> None:
        self.playable: list[Pairing] = []
        self._results: Mapping[Pairing, float | None] = state.results
        self._seed_of = {candidate: seed for seed, candidate in enumerate(seeds)}
        size = 1 << num_rounds(len(seeds))
        places = as_lines(seeds, state) + [Side.BYE] * (size - len(seeds))
        self.lines: list[Line] = [places[seed] for seed in bracket_order(size)]

    def play(self, lines: Sequence[Line], match_round: int) -> tuple[list[Line], list[Line]]:
        """Winners and losers of one round, in which neighbouring lines meet."""
        met = [self._meet(up, low, match_round) for up, low in zip(lines[::2], lines[1::2], strict=True)]
        return [winner for winner, _ in met], [loser for _, loser in met]

    def knockout(self, first_round: int = 1) -> Line:
        """Plays the whole bracket by single elimination; the champion, if known."""
        lines, match_round = self.lines, first_round
        while len(lines) > 1:
            lines, _ = self.play(lines, match_round)
            match_round += 1
        return lines[0]

    def _meet(self, upper: Line, lower: Line, match_round: int) -> tuple[Line, Line]:
        if upper is Side.BYE:
            return lower, Side.BYE
        if lower is Side.BYE:
            return upper, Side.BYE
        if isinstance(upper, Side) or isinstance(lower, Side):
            return Side.PENDING, Side.PENDING
        pairing = pair(upper, lower, match_round)
        if pairing not in self._results:
            self.playable.append(pairing)
            return Side.PENDING, Side.PENDING
        better, worse = sorted((upper, lower), key=self._seed_of.__getitem__)
        upset = seen_from(worse, pairing, self._results[pairing]) == 1.0
        return (worse, better) if upset else (better, worse)
