from __future__ import annotations

import pytest

from rewards.topologies.live_anchors import LiveAnchorTopology
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import by_strength, lower_wins, play_at_once

OPENING = {Pairing(0, 1): 1.0, Pairing(0, 2): 1.0, Pairing(1, 2): 1.0}


def test_eight_play_eighteen_matches_in_three_waves() -> None:
    results = play_at_once(LiveAnchorTopology(), 8, lower_wins)
    per_wave = [sum(pairing.round == wave for pairing in results) for wave in range(3)]
    assert per_wave == [3, 9, 6]


def test_newcomers_meet_best_median_and_worst() -> None:
    # Strength 0 < 1 < .. < 7. After wave 1: 3, 4 and 5 have won all three, 2 won 2 of 5, 1 and 0 less; 0 is worst.
    results = play_at_once(LiveAnchorTopology(), 8, by_strength({i: float(i) for i in range(8)}))
    opponents = {j: {p.a for p in results if p.round == 2 and p.b == j} for j in (6, 7)}
    assert opponents[6] == opponents[7]
    assert len(opponents[6] & {3, 4, 5}) == 2, "best and median are among the three equals"
    assert 0 in opponents[6]


def test_the_median_of_four_is_the_better_middle() -> None:
    # Placed 0..5 in order of strength 0 > 1 > .. > 5; after wave 1, 0 has won all, then 1; 3, 4, 5 lost to all anchors.
    results = play_at_once(LiveAnchorTopology(), 7, lower_wins)
    met = {pairing.a for pairing in results if pairing.round == 2}
    assert 0 in met
    assert 2 in met, "0, 1, 2, then the three who lost everything: the third of six is 2"
    assert met - {0, 2} <= {3, 4, 5}


def test_a_wave_waits_for_the_slots_before_it() -> None:
    topology = LiveAnchorTopology()
    assert topology.playable(TournamentState(8, frozenset({0, 2, 4}), False, {})) == [Pairing(0, 2)]
    ready = TournamentState(8, frozenset({0, 1, 2, 4, 7}), False, OPENING)
    assert sorted(topology.playable(ready)) == [Pairing(0, 4, 1), Pairing(1, 4, 1), Pairing(2, 4, 1)]
    half = dict(list(OPENING.items())[:2])
    assert topology.playable(TournamentState(8, frozenset({0, 1, 2, 4}), False, half)) == [Pairing(1, 2)]


def test_closing_skips_those_who_never_came() -> None:
    topology = LiveAnchorTopology()
    state = TournamentState(8, frozenset({0, 2, 4, 7}), True, {Pairing(0, 2): 1.0, Pairing(0, 4): 1.0})
    assert topology.playable(state) == [Pairing(2, 4)]
    done = TournamentState(8, state.arrived, True, {**state.results, Pairing(2, 4): None})
    assert sorted(topology.playable(done)) == [Pairing(0, 7, 1), Pairing(2, 7, 1), Pairing(4, 7, 1)]


@pytest.mark.parametrize(("num_candidates", "matches"), [(1, 0), (2, 1), (3, 3), (4, 6), (8, 18), (16, 42), (32, 90)])
def test_costs(num_candidates: int, matches: int) -> None:
    assert LiveAnchorTopology().max_matches(num_candidates) == matches
