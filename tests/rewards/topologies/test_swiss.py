from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.topologies.swiss import SwissTopology, Table
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import (
    by_strength,
    falling,
    lower_wins,
    play_at_once,
    random_results,
)

PRIOR = SwissTopology(seeding="prior")


def entered(first_order: list[int], *rounds: tuple[Mapping[Pairing, float | None], int | None]) -> Table:
    table = Table(first_order)
    for results, bye in rounds:
        table.enter(list(results), bye, TournamentState(8, frozenset(first_order), True, results))
    return table


def test_four_play_two_rounds_of_neighbours() -> None:
    # 0-1, 2-3; 0 and 2 won, 1 and 3 lost.
    results = play_at_once(PRIOR, 4, lower_wins, prior_scores=falling(4))
    assert list(results) == [Pairing(0, 1, 1), Pairing(2, 3, 1), Pairing(0, 2, 2), Pairing(1, 3, 2)]


def test_points_and_buchholz_by_hand() -> None:
    # Round 1: 0 beats 1, 2 = 3, 4 has the bye. Round 2: 0 = 4, 2 beats 1, 3 has the bye.
    # Points: 0 1.5, 4 1.5, 2 1.5, 3 1.5, 1 0. Buchholz: 0: p1 + p4 = 1.5; 4: p0 = 1.5; 2: p3 + p1 = 1.5; 3: p2 = 1.5.
    first = {Pairing(0, 1, 1): 1.0, Pairing(2, 3, 1): 0.5}
    second = {Pairing(0, 4, 2): 0.5, Pairing(1, 2, 2): 0.0}
    table = entered([0, 1, 2, 3, 4], (first, 4), (second, 3))
    assert table.points == {0: 1.5, 1: 0.0, 2: 1.5, 3: 1.5, 4: 1.5}
    assert table.standings() == [0, 2, 3, 4, 1], "equal points and Buchholz: the first order"
    # Let 0 win in round 2 instead: 0 has 2, 4 has 1. Buchholz of 2 (p3 + p1 = 1.5), 3 (p2 = 1.5), 4 (p0 = 2).
    table = entered([0, 1, 2, 3, 4], (first, 4), ({**second, Pairing(0, 4, 2): 1.0}, 3))
    assert table.standings() == [0, 2, 3, 4, 1]


def test_buchholz_goes_before_the_first_order() -> None:
    # After two rounds of 4: 0 beat 1 and lost to 2; 3 lost to 2 and beat 1. Both have one point.
    # Buchholz: 0: p1 + p2 = 0 + 2; 1: p0 + p3 = 2 ; 3: p2 + p1 = 2. Let 3 beat 0's victim late and stay level:
    first = {Pairing(0, 1, 1): 1.0, Pairing(2, 3, 1): 1.0}
    second = {Pairing(0, 2, 2): 0.0, Pairing(1, 3, 2): 1.0}
    # Points: 0 1, 1 1, 2 2, 3 0. Buchholz: 0: p1 + p2 = 3; 1: p0 + p3 = 1.
    assert entered([1, 0, 2, 3], (first, None), (second, None)).standings() == [2, 0, 1, 3]


def test_a_missing_verdict_is_half_a_point_for_the_pairing() -> None:
    table = entered([0, 1], ({Pairing(0, 1, 1): None}, None))
    assert table.points == {0: 0.5, 1: 0.5}


def test_the_bye_goes_to_the_lowest_who_has_not_had_one() -> None:
    # 4 had the bye in round 1 and has a point. Standings: 0, 2, 4 with one, 1 and 3 with none.
    table = entered([0, 1, 2, 3, 4], ({Pairing(0, 1, 1): 1.0, Pairing(2, 3, 1): 1.0}, 4))
    assert table.next_round()[1] == 3
    # Had 1 and 3 had it before, it would be 4's turn.
    both = entered([0, 1, 2, 3, 4], ({Pairing(0, 2, 1): 1.0}, 1), ({Pairing(0, 4, 2): 1.0}, 3))
    assert both.standings()[-2:] == [2, 4]
    assert both.next_round()[1] == 4


def test_left_over_neighbours_swap_with_the_lowest_pair_that_can() -> None:
    # Standings 0..5 by first order (all level). 4 and 5 have met, and so are left over after 0-1, 2-3.
    table = entered([0, 1, 2, 3, 4, 5], ({Pairing(4, 5, 1): 0.5, Pairing(0, 2, 1): 0.5, Pairing(1, 3, 1): 0.5}, None))
    pairs, bye = table.next_round()
    assert bye is None
    # 4 (the higher) takes 2, the upper of the lowest pair; 3 and 5 are left for each other.
    assert {frozenset(both) for both in pairs} == {frozenset({0, 1}), frozenset({2, 4}), frozenset({3, 5})}


@settings(max_examples=30)
@given(num_candidates=st.integers(2, 33), rounds=st.integers(1, 40), world=st.integers(0, 10**6))
def test_nobody_meets_twice_and_byes_go_round(num_candidates: int, rounds: int, world: int) -> None:
    topology = SwissTopology(rounds)
    results = play_at_once(topology, num_candidates, random_results(world), seed=world)
    assert len({(pairing.a, pairing.b) for pairing in results}) == len(results) == topology.max_matches(num_candidates)
    played = Counter(i for pairing in results for i in (pairing.a, pairing.b))
    num_rounds = max(pairing.round for pairing in results)
    assert all(played[i] >= num_rounds - num_candidates % 2 for i in range(num_candidates)), "one bye at most"


@settings(max_examples=20)
@given(num_candidates=st.integers(2, 33), world=st.integers(0, 10**6))
def test_nobody_meets_twice_when_the_standings_hardly_move(num_candidates: int, world: int) -> None:
    # The hardest case for the pairing: a transitive judge and as many rounds as can be had.
    strengths = {i: float((i * 17 + world) % 37) for i in range(num_candidates)}
    results = play_at_once(SwissTopology(64), num_candidates, by_strength(strengths), seed=world)
    assert len({(pairing.a, pairing.b) for pairing in results}) == len(results)
    assert max(pairing.round for pairing in results) == max(num_candidates // 2, (num_candidates - 1).bit_length())


@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_only_the_best_is_unbeaten(num_candidates: int) -> None:
    strengths = {i: float((i * 7 + 3) % 37) for i in range(num_candidates)}
    best = max(strengths, key=strengths.__getitem__)
    for seed in range(5):
        results = play_at_once(SwissTopology(), num_candidates, by_strength(strengths), seed=seed)
        lost = {pairing.b if result == 1.0 else pairing.a for pairing, result in results.items()}
        assert best not in lost
        # With five, the rule against rematches can keep two apart who have not lost.
        assert len(lost) >= num_candidates - (2 if num_candidates == 5 else 1)


def test_round_1_streams_and_those_left_alone_meet_when_the_group_is_closed() -> None:
    topology = SwissTopology()
    one, other, third = topology.playable(TournamentState(6, frozenset(range(6)), True, {}, 5))
    half = frozenset({one.a, other.a, third.a, third.b})
    assert topology.playable(TournamentState(6, half, False, {}, 5)) == [third]
    closed = topology.playable(TournamentState(6, half, True, {third: 1.0}, 5))
    assert closed == [Pairing(min(one.a, other.a), max(one.a, other.a), 1)]


@pytest.mark.parametrize(("num_candidates", "matches"), [(1, 0), (2, 1), (3, 2), (5, 6), (8, 12), (16, 32), (32, 80)])
def test_costs(num_candidates: int, matches: int) -> None:
    assert SwissTopology().max_matches(num_candidates) == matches
