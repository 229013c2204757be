from __future__ import annotations

import random

import pytest

from rewards.topologies.heapsort import HeapsortTopology
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import by_strength, falling, lower_wins, play_at_once, random_results


def test_three_by_hand() -> None:
    # Heap 0, 1, 2: 1-2, then 0-1. Out comes 0; heap 2, 1: 1-2 again, whose verdict is used once more.
    results = play_at_once(HeapsortTopology(), 3, lower_wins, prior_scores=falling(3))
    assert list(results) == [Pairing(1, 2), Pairing(0, 1)]


@pytest.mark.parametrize("seeding", ["random", "prior"])
@pytest.mark.parametrize("num_candidates", range(1, 34))
def test_a_transitive_judge_gives_the_whole_order(seeding: str, num_candidates: int) -> None:
    order = random.Random(num_candidates).sample(range(num_candidates), num_candidates)
    topology = HeapsortTopology("random" if seeding == "random" else "prior")
    judge = by_strength({i: -float(place) for place, i in enumerate(order)})
    results = play_at_once(topology, num_candidates, judge, seed=2)
    state = TournamentState(num_candidates, frozenset(range(num_candidates)), True, results, 2)
    assert topology.order(state) == order


@pytest.mark.parametrize("missing", [0.5, None])
def test_without_a_winner_the_first_order_decides(missing: float | None) -> None:
    topology = HeapsortTopology()
    results = play_at_once(topology, 9, lambda _: missing, prior_scores=falling(9))
    state = TournamentState(9, frozenset(range(9)), True, results, 0, falling(9))
    assert topology.order(state) == list(range(9))


def test_one_comparison_at_a_time_and_only_with_everybody() -> None:
    topology = HeapsortTopology()
    assert topology.playable(TournamentState(8, frozenset(range(7)), False, {})) == []
    assert topology.order(TournamentState(8, frozenset(range(7)), False, {})) is None
    assert len(topology.playable(TournamentState(8, frozenset(range(7)), True, {}))) == 1


def test_a_judge_that_goes_round_still_ends_with_an_order_of_all() -> None:
    topology = HeapsortTopology()
    for world in range(20):
        results = play_at_once(topology, 12, random_results(world), seed=world)
        order = topology.order(TournamentState(12, frozenset(range(12)), True, results, world))
        assert order is not None
        assert sorted(order) == list(range(12))


@pytest.mark.parametrize(("num_candidates", "matches"), [(1, 0), (2, 1), (4, 6), (8, 28), (16, 98), (32, 258)])
def test_bounds(num_candidates: int, matches: int) -> None:
    # N=16: building 2 (4 + 2*3 + 4*2 + ...), see the class; taking out 8*6 + 4*4 + 2*2 = 68.
    assert HeapsortTopology().max_matches(num_candidates) == matches
