from __future__ import annotations

import random

import pytest

from rewards.topologies.brackets import Side
from rewards.topologies.ordering import lots
from rewards.topologies.sliding_window import SlidingWindowTopology
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import (
    Results,
    by_strength,
    falling,
    lower_wins,
    play_at_once,
    random_results,
)

RISING = by_strength({i: float(i) for i in range(64)})


def final_order(topology: SlidingWindowTopology, num_candidates: int, results: Results, seed: int = 0) -> list[object]:
    state = TournamentState(num_candidates, frozenset(range(num_candidates)), True, results, seed)
    return list(topology.order(state))


def test_one_pass_carries_the_best_to_the_top() -> None:
    # First order 0, 1, 2, 3, and 3 is the best: 2-3, 1-3, 0-3.
    topology = SlidingWindowTopology(1)
    results = play_at_once(topology, 4, RISING, prior_scores=falling(4))
    assert list(results) == [Pairing(2, 3), Pairing(1, 3), Pairing(0, 3)]
    state = TournamentState(4, frozenset(range(4)), True, results, 0, falling(4))
    assert topology.order(state) == [3, 0, 1, 2]


def test_the_second_pass_follows_two_places_behind() -> None:
    topology = SlidingWindowTopology(2)
    results: Results = {Pairing(2, 3): 0.0, Pairing(1, 3): 0.0}
    # 0, 3, 1, 2: pass 1 asks 0-3, pass 2 starts with 1-2.
    state = TournamentState(4, frozenset(range(4)), True, results, 0, falling(4))
    assert topology.playable(state) == [Pairing(0, 3), Pairing(1, 2)]


def test_serial_rounds_are_as_stated() -> None:
    topology, num_candidates, passes = SlidingWindowTopology(3), 9, 3
    results: Results = {}
    for _ in range(num_candidates + passes - 2):
        state = TournamentState(num_candidates, frozenset(range(num_candidates)), True, results, 0, falling(9))
        results |= {pairing: RISING(pairing) for pairing in topology.playable(state)}
    state = TournamentState(num_candidates, frozenset(range(num_candidates)), True, results, 0, falling(9))
    assert topology.playable(state) == []
    assert topology.order(state) == [8, 7, 6, 0, 1, 2, 3, 4, 5]
    assert len(results) == topology.max_matches(9) == 8 + 7 + 6


def test_a_verdict_is_used_again() -> None:
    # Nothing moves in pass 1; pass 2 would ask 1-2 again.
    results = play_at_once(SlidingWindowTopology(2), 3, lower_wins, prior_scores=falling(3))
    assert list(results) == [Pairing(1, 2), Pairing(0, 1)]
    assert SlidingWindowTopology(2).max_matches(3) == 3


@pytest.mark.parametrize("missing", [0.5, None])
def test_without_a_winner_the_two_stay_as_they_stand(missing: float | None) -> None:
    topology = SlidingWindowTopology(2)
    results = play_at_once(topology, 5, lambda _: missing, prior_scores=falling(5))
    state = TournamentState(5, frozenset(range(5)), True, results, 0, falling(5))
    assert topology.order(state) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_the_best_k_stand_in_order(num_candidates: int) -> None:
    order = random.Random(num_candidates).sample(range(num_candidates), num_candidates)
    judge = by_strength({i: -float(place) for place, i in enumerate(order)})
    for passes in {1, min(3, num_candidates - 1), num_candidates - 1}:
        topology = SlidingWindowTopology(passes)
        results = play_at_once(topology, num_candidates, judge, seed=2)
        found = final_order(topology, num_candidates, results, seed=2)
        assert found[:passes] == order[:passes]
        assert passes < num_candidates - 1 or found == order


@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_bubble_sort_is_the_oracle(num_candidates: int) -> None:
    topology, result_of, passes = SlidingWindowTopology(4, "random"), random_results(num_candidates), 4
    results = play_at_once(topology, num_candidates, result_of, seed=1)
    order = lots(TournamentState(num_candidates, frozenset(), True, {}, 1))[0]
    asked = set()
    for top in range(min(passes, num_candidates - 1)):
        for k in range(num_candidates - 1, top, -1):
            upper, lower = order[k - 1], order[k]
            pairing = Pairing(min(upper, lower), max(upper, lower))
            asked.add(pairing)
            if result_of(pairing) == (1.0 if lower == pairing.a else 0.0):
                order[k - 1], order[k] = lower, upper
    assert set(results) == asked
    assert final_order(topology, num_candidates, results, seed=1) == order


def test_a_random_first_order_streams_from_its_end() -> None:
    topology = SlidingWindowTopology(1, "random")
    order = lots(TournamentState(6, frozenset(), False, {}, 4))[0]
    last = Pairing(min(order[-2:]), max(order[-2:]))
    assert topology.playable(TournamentState(6, frozenset(order[-2:]), False, {}, 4)) == [last]
    assert topology.playable(TournamentState(6, frozenset(order[:-1]), False, {}, 4)) == []


def test_the_absent_sink_below_everybody() -> None:
    topology = SlidingWindowTopology(2, "random")
    results = play_at_once(topology, 6, lower_wins, seed=4, arrived=[1, 2, 4])
    state = TournamentState(6, frozenset({1, 2, 4}), True, results, 4)
    order = topology.order(state)
    assert [line for line in order if line is not Side.BYE] == [1, 2, 4]
    assert order[:2] == [1, 2]


@pytest.mark.parametrize(
    ("passes", "num_candidates", "matches"), [(10, 8, 28), (10, 16, 105), (10, 32, 265), (1, 8, 7)]
)
def test_bounds(passes: int, num_candidates: int, matches: int) -> None:
    assert SlidingWindowTopology(passes).max_matches(num_candidates) == matches
