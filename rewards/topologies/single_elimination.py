"""Single elimination: a knockout bracket with real byes, seeded at random, by a prior or by an anchor round.

round 0 (anchor seeding only)   everybody against the anchor, as they arrive
round 1..ceil(log2 N)           the bracket; a match waits for its two sides
"""

from __future__ import annotations

from rewards.topologies.brackets import Bracket
from rewards.topologies.seeding import Seeding, draw_seeds, seeding_matches
from rewards.types import Pairing, TournamentState


class SingleEliminationTopology:
    """N-1 matches; with `seeding="anchor"` everybody plays the anchor first, 2N-2 matches (ArenaRL, arXiv 2601.06487).

    Random seeding streams: the bracket is drawn over all slots, and one that never arrives is a bye. With an anchor
    only round 0 streams, with a prior nothing does. The anchor is candidate 0, or the lowest slot that arrived once the
    group is closed; its bracket match against somebody it met before is a second meeting, with its bracket round.

    A tie or a missing verdict lets the better seed advance; nothing is logged for it.
    """

    def __init__(self, seeding: Seeding = "anchor") -> None:
        self._seeding: Seeding = seeding

    def playable(self, state: TournamentState) -> list[Pairing]:
        draw = draw_seeds(state, self._seeding)
        if draw.seeds is None:
            return draw.waiting
        bracket = Bracket(draw.seeds, state)
        bracket.knockout()
        return bracket.playable

    def max_matches(self, num_candidates: int) -> int:
        """Exact."""
        return num_candidates - 1 + seeding_matches(num_candidates, self._seeding)
