from __future__ import annotations

from math import ceil, log2

import pytest

from rewards.topologies.brackets import bracket_order, num_rounds
from rewards.topologies.seeding import Seeding
from rewards.topologies.single_elimination import SingleEliminationTopology
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import by_strength, falling, lower_wins, play_at_once, winner

ANCHOR = SingleEliminationTopology("anchor")
RANDOM = SingleEliminationTopology("random")
PRIOR = SingleEliminationTopology("prior")


def test_bracket_order_is_the_standard_one() -> None:
    assert bracket_order(8) == [0, 7, 3, 4, 1, 6, 2, 5]
    for size in (2, 4, 8, 16, 32):
        order = bracket_order(size)
        assert sorted(order) == list(range(size))
        assert all(order[k] + order[k + 1] == size - 1 for k in range(0, size, 2))


def test_num_rounds_is_the_ceiling_of_log2() -> None:
    assert [num_rounds(n) for n in range(2, 66)] == [ceil(log2(n)) for n in range(2, 66)]
    assert num_rounds(0) == num_rounds(1) == 0


@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_best_seeds_have_the_byes(num_candidates: int) -> None:
    rounds = ceil(log2(num_candidates))
    num_byes = 2**rounds - num_candidates
    results = play_at_once(PRIOR, num_candidates, lower_wins, prior_scores=falling(num_candidates))
    first_round = [pairing for pairing in results if pairing.round == 1]
    assert len(first_round) == num_candidates - 2 ** (rounds - 1)
    waiting = set(range(num_candidates)) - {i for pairing in first_round for i in (pairing.a, pairing.b)}
    assert waiting == set(range(num_byes))
    assert max(pairing.round for pairing in results) == rounds
    assert Pairing(0, 1, rounds) in results, "the two best meet in the final"


@pytest.mark.parametrize("seeding", ["random", "anchor", "prior"])
@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_the_best_wins_the_final(seeding: Seeding, num_candidates: int) -> None:
    strengths = {i: float((i * 7 + 3) % 37) for i in range(num_candidates)}
    results = play_at_once(SingleEliminationTopology(seeding), num_candidates, by_strength(strengths), seed=9)
    final = max(results, key=lambda pairing: pairing.round)
    assert winner(final, results[final]) == max(strengths, key=strengths.__getitem__)


def test_six_seeds_give_byes_to_the_best_two() -> None:
    # Against the anchor 0: 1 and 2 win, 3 and 4 are level, 5 loses. The anchor's mean is (.5 + .5 + 1) / 5 = .4.
    against_anchor = {1: 0.0, 2: 0.0, 3: 0.5, 4: 0.5, 5: 1.0}

    def result_of(pairing: Pairing) -> float:
        return against_anchor[pairing.b] if pairing.round == 0 else 1.0

    results = play_at_once(ANCHOR, 6, result_of)
    first_round = {frozenset((pairing.a, pairing.b)) for pairing in results if pairing.round == 1}
    # Seeds 1..6 are {1,2}, {3,4}, 0, 5: the bracket is 1-bye, 4-5, 2-bye, 3-6.
    assert len(first_round) == 2
    assert all(not {1, 2} & pair for pair in first_round)
    (with_anchor,) = [pair for pair in first_round if 0 in pair]
    (with_last,) = [pair for pair in first_round if 5 in pair]
    assert with_anchor & {3, 4}
    assert with_last & {3, 4}
    assert with_anchor != with_last


def test_equal_results_against_the_anchor_are_ordered_by_the_prior() -> None:
    # Everybody is level with the anchor 0; by prior 3, 2, 1, 0. The bracket is 3-0, 2-1.
    results = play_at_once(ANCHOR, 4, lambda _: 0.5, prior_scores={i: float(i) for i in range(4)})
    assert {pairing for pairing in results if pairing.round == 1} == {Pairing(0, 3, 1), Pairing(1, 2, 1)}
    assert Pairing(2, 3, 2) in results


@pytest.mark.parametrize("missing", [0.5, None])
def test_a_tie_or_a_missing_verdict_advances_the_better_seed(missing: float | None) -> None:
    # Against anchor 0: 1 wins, 2 and 3 lose. Seeds: 1, 0 (mean 2/3), then 2 and 3 by lot; no bracket match is decided.
    def result_of(pairing: Pairing) -> float | None:
        return (0.0 if pairing.b == 1 else 1.0) if pairing.round == 0 else missing

    results = play_at_once(ANCHOR, 4, result_of)
    (final,) = [pairing for pairing in results if pairing.round == 2]
    assert final == Pairing(0, 1, 2)


def test_the_anchors_second_meeting_is_a_pairing_of_its_own() -> None:
    assert list(play_at_once(ANCHOR, 2, lambda _: 1.0)) == [Pairing(0, 1, 0), Pairing(0, 1, 1)]


def test_the_anchor_round_streams_and_the_bracket_waits_for_everybody() -> None:
    assert ANCHOR.playable(TournamentState(4, frozenset({1, 3}), False, {})) == []
    assert ANCHOR.playable(TournamentState(4, frozenset({0, 3}), False, {})) == [Pairing(0, 3)]
    assert ANCHOR.playable(TournamentState(4, frozenset({0, 3}), False, {Pairing(0, 3): 1.0})) == []
    closed = TournamentState(4, frozenset({0, 3}), True, {Pairing(0, 3): 1.0})
    assert ANCHOR.playable(closed) == [Pairing(0, 3, 1)]


def test_without_slot_0_the_lowest_arrived_slot_is_the_anchor() -> None:
    state = TournamentState(4, frozenset({1, 2, 3}), True, {})
    assert ANCHOR.playable(state) == [Pairing(1, 2), Pairing(1, 3)]


def test_a_random_bracket_streams_and_gives_the_absent_a_bye() -> None:
    everybody = RANDOM.playable(TournamentState(4, frozenset(range(4)), True, {}, 1))
    one, other = everybody
    assert RANDOM.playable(TournamentState(4, frozenset({one.a, one.b}), False, {}, 1)) == [one]
    decided = TournamentState(4, frozenset({one.a, one.b, other.a}), False, {one: 1.0}, 1)
    assert RANDOM.playable(decided) == []
    closed = TournamentState(4, decided.arrived, True, {one: 1.0}, 1)
    assert RANDOM.playable(closed) == [Pairing(min(one.a, other.a), max(one.a, other.a), 2)]


def test_seeds_change_the_bracket_and_equal_seeds_do_not() -> None:
    brackets = [
        tuple(RANDOM.playable(TournamentState(8, frozenset(range(8)), True, {}, seed))) for seed in (1, 1, 2, 3)
    ]
    assert brackets[0] == brackets[1]
    assert len(set(brackets)) == 3


def test_an_upset_goes_through_to_the_final() -> None:
    # 5 beats everybody it meets: N=8, three rounds.
    results = play_at_once(RANDOM, 8, lambda pairing: 0.0 if pairing.b == 5 else 1.0)
    assert sum(5 in (pairing.a, pairing.b) for pairing in results) == 3
