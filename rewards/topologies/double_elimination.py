"""Double elimination: who loses once goes on in a losers' bracket, who loses twice is out.

winners   8 --1--> 4 --2--------> 2 --3---------------> champion ----+
          | losers | losers       | losers                           +-- final (one match)
losers    4 --4--> 2 --5--> 2 --6--> 1 --7--> 1 ---------------------+

With k = ceil(log2 N): rounds 1..k are the winners' bracket, k+1..3k-2 the losers', 3k-1 the final; round 0 is the
anchor round, if there is one. Losers of every second winners' round enter in reverse order, away from whom they met.
"""

from __future__ import annotations

from rewards.topologies.brackets import Bracket, Line, num_rounds
from rewards.topologies.seeding import Seeding, draw_seeds, seeding_matches
from rewards.types import Pairing, TournamentState


class DoubleEliminationTopology:
    """2N-2 matches without a bracket reset, N-1 more with an anchor round (ArenaRL, arXiv 2601.06487).

    Everybody but the two finalists loses twice, one finalist came with a loss, and the final adds one: 2N-2 for any N,
    because a bye is no match. The final is one match even if the winners' champion loses it: no reset.

    Random seeding streams, as in single elimination. A tie or a missing verdict lets the better seed advance, in both
    brackets and in the final; nothing is logged for it.
    """

    def __init__(self, seeding: Seeding = "random") -> None:
        self._seeding: Seeding = seeding

    def playable(self, state: TournamentState) -> list[Pairing]:
        draw = draw_seeds(state, self._seeding)
        if draw.seeds is None:
            return draw.waiting
        bracket = Bracket(draw.seeds, state)
        _play(bracket, num_rounds(len(draw.seeds)))
        return bracket.playable

    def max_matches(self, num_candidates: int) -> int:
        """Exact."""
        return 2 * (num_candidates - 1) + seeding_matches(num_candidates, self._seeding)


def _play(bracket: Bracket, rounds: int) -> None:
    winners, losers = bracket.lines, list[list[Line]]()
    for match_round in range(1, rounds + 1):
        winners, beaten = bracket.play(winners, match_round)
        losers.append(beaten)
    if not losers:
        return
    match_round, survivors = rounds, losers[0]
    for number, beaten in enumerate(losers[1:]):
        match_round += 1
        survivors, _ = bracket.play(survivors, match_round)
        match_round += 1
        entering = beaten[::-1] if number % 2 == 0 else beaten
        survivors, _ = bracket.play(
            [line for both in zip(survivors, entering, strict=True) for line in both], match_round
        )
    bracket.play([winners[0], survivors[0]], match_round + 1)
