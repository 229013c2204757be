from __future__ import annotations

from rewards.topologies.round_robin import RoundRobinTopology
from rewards.types import Pairing, TournamentState


def test_a_pair_plays_as_soon_as_both_have_arrived() -> None:
    state = TournamentState(8, frozenset({2, 5, 6}), False, {Pairing(2, 6): None})
    assert RoundRobinTopology().playable(state) == [Pairing(2, 5), Pairing(5, 6)]
