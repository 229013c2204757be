from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.topologies.anchor import AnchorTopology, informativeness
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import falling, lower_wins, play_at_once, random_results


@pytest.mark.parametrize(
    ("results", "share"),
    [
        ([1.0, 1.0, 0.0, 0.0], 4 / 6),
        ([1.0, 1.0, 1.0], 0.0),
        ([1.0, 0.5, 0.0], 1.0),
        ([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 6 / 21),
        ([0.5, 0.5, None, 0.5], 0.0),
        ([1.0, None], None),
        ([], None),
    ],
)
def test_informativeness_by_hand(results: list[float | None], share: float | None) -> None:
    assert informativeness(results) == (None if share is None else pytest.approx(share))


@given(st.lists(st.sampled_from([1.0, 0.0, 0.5, None]), max_size=12))
def test_informativeness_counts_pairs_of_opponents(results: list[float | None]) -> None:
    decided = [result for result in results if result is not None]
    pairs = list(combinations(decided, 2))
    expected = sum(a != b for a, b in pairs) / len(pairs) if pairs else None
    assert informativeness(results) == (None if expected is None else pytest.approx(expected))
    flipped = [None if result is None else 1.0 - result for result in results]
    assert informativeness(flipped) == informativeness(results), "either side may tell"


def test_without_switches_everybody_meets_slot_0_once() -> None:
    results = play_at_once(AnchorTopology(max_switches=0), 8, lower_wins)
    assert sorted(results) == [Pairing(0, i) for i in range(1, 8)]


def test_round_0_streams_once_the_anchor_is_there() -> None:
    topology = AnchorTopology()
    assert topology.playable(TournamentState(4, frozenset({1, 3}), False, {})) == []
    assert topology.playable(TournamentState(4, frozenset({0, 3}), False, {})) == [Pairing(0, 3)]
    assert topology.playable(TournamentState(4, frozenset({1, 3}), True, {})) == [Pairing(1, 3)]


def test_an_anchor_that_beats_everybody_is_replaced_by_the_median_of_the_rest() -> None:
    # All of 1..7 lost to 0. By prior they stand 1, 2, .., 7; their median is 4, who meets all but 0: 7 + 6 matches.
    results = play_at_once(AnchorTopology(), 8, lower_wins, prior_scores=falling(8))
    assert sorted(results)[:7] == [Pairing(0, i, 0) for i in range(1, 8)]
    assert {pairing for pairing in results if pairing.round == 1} == {
        Pairing(min(4, i), max(4, i), 1) for i in (1, 2, 3, 5, 6, 7)
    }
    assert len(results) == AnchorTopology().max_matches(8) == 13


def test_the_result_against_the_old_anchor_comes_before_the_prior() -> None:
    # 7 beat 0, the others lost: 6 / 21 < 0.35. Best first: 7, 1, 2, .., 6; the median of these seven is 3.
    def result_of(pairing: Pairing) -> float:
        return 0.0 if pairing == Pairing(0, 7) else 1.0

    results = play_at_once(AnchorTopology(), 8, result_of, prior_scores=falling(8))
    assert all(3 in (pairing.a, pairing.b) for pairing in results if pairing.round == 1)
    assert len(results) == 13


def test_an_informative_anchor_stays() -> None:
    # Two of seven beat it: 10 / 21 = 0.48.
    results = play_at_once(AnchorTopology(), 8, lambda pairing: 0.0 if pairing.b in (2, 5) else 1.0)
    assert len(results) == 7


def test_the_threshold_is_strict() -> None:
    # One of four beats it: 3 / 6, a share without rounding.
    def result_of(pairing: Pairing) -> float:
        return 0.0 if pairing.b == 1 else 1.0

    assert len(play_at_once(AnchorTopology(min_informativeness=0.5), 5, result_of)) == 4
    assert len(play_at_once(AnchorTopology(min_informativeness=0.51), 5, result_of)) == 7


def test_a_switch_waits_for_everybody() -> None:
    results: dict[Pairing, float | None] = {Pairing(0, i): 1.0 for i in range(1, 6)}
    early = TournamentState(8, frozenset(range(6)), False, results)
    assert AnchorTopology().playable(early) == []
    closed = TournamentState(8, early.arrived, True, results)
    assert len(AnchorTopology().playable(closed)) == 4


@pytest.mark.parametrize(("decided", "matches"), [(3, 7), (4, 13)])
def test_too_few_verdicts_switch_nothing(decided: int, matches: int) -> None:
    results = play_at_once(AnchorTopology(), 8, lambda pairing: 1.0 if pairing.b <= decided else None)
    assert len(results) == matches


@pytest.mark.parametrize(
    ("max_switches", "num_candidates", "bound"),
    [(1, 8, 7 + 6), (2, 8, 7 + 6 + 5), (8, 5, 10), (3, 2, 1), (8, 3, 3), (0, 8, 7), (1, 1, 0)],
)
def test_the_bound_is_reached_when_no_anchor_informs(max_switches: int, num_candidates: int, bound: int) -> None:
    topology = AnchorTopology(max_switches=max_switches, min_decided=2)
    assert topology.max_matches(num_candidates) == (bound if num_candidates > 2 or bound < 2 else 1)
    results = play_at_once(topology, num_candidates, lambda _: 0.5)
    assert len(results) == bound
    assert len({(pairing.a, pairing.b) for pairing in results}) == bound, "nobody meets twice"


def test_the_median_by_prior_waits_for_everybody() -> None:
    topology = AnchorTopology("median", max_switches=0)
    prior_scores = {0: 5.0, 1: 1.0, 2: 2.0, 3: 4.0, 4: 3.0}
    open_state = TournamentState(5, frozenset(range(4)), False, {}, 0, prior_scores)
    assert topology.playable(open_state) == []
    closed = TournamentState(5, frozenset(range(5)), False, {}, 0, prior_scores)
    assert topology.playable(closed) == [Pairing(0, 4), Pairing(1, 4), Pairing(2, 4), Pairing(3, 4)]


@settings(max_examples=50)
@given(st.integers(2, 12), st.integers(0, 3), st.integers(0, 10**6))
def test_nobody_meets_twice(num_candidates: int, max_switches: int, world: int) -> None:
    topology = AnchorTopology(max_switches=max_switches, min_decided=2, min_informativeness=0.6)
    results = play_at_once(topology, num_candidates, random_results(world), seed=world)
    assert len({(pairing.a, pairing.b) for pairing in results}) == len(results)
