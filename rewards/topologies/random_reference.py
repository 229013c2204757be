"""Random reference: everybody meets one member of the group, drawn by lot."""

from __future__ import annotations

from rewards.topologies.ordering import by_lot, lots, members_known, pair, unplayed
from rewards.types import Pairing, TournamentState


class RandomReferenceTopology:
    """N-1 matches in one round against a reference drawn from `state.seed` (BRPO: Writing-Zero, arXiv 2506.00103).

    Streams once the reference has arrived; if it never does, the next of the lot takes its place when the group is
    closed. A missing verdict is a gap and changes nothing else.
    """

    def playable(self, state: TournamentState) -> list[Pairing]:
        reference = lots(state)[0][0]
        if reference not in state.arrived:
            if not state.arrived or not members_known(state):
                return []
            reference = by_lot(state)[0]
        return unplayed((pair(reference, i) for i in sorted(state.arrived) if i != reference), state.results)

    def max_matches(self, num_candidates: int) -> int:
        """Exact."""
        return num_candidates - 1
