from __future__ import annotations

from collections import Counter

import pytest

from rewards.topologies.double_elimination import DoubleEliminationTopology
from rewards.topologies.seeding import Seeding
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import (
    by_strength,
    falling,
    lower_wins,
    play_at_once,
    random_results,
    winner,
)

PRIOR = DoubleEliminationTopology("prior")


def test_four_play_six_matches() -> None:
    # Winners: 0-3, 1-2; 0-1. Losers: 2-3 (round 3); 2 against the loser of round 2, which is 1 (round 4). Final 0-1.
    results = play_at_once(PRIOR, 4, lower_wins, prior_scores=falling(4))
    assert sorted(results, key=lambda pairing: pairing.round) == [
        Pairing(0, 3, 1),
        Pairing(1, 2, 1),
        Pairing(0, 1, 2),
        Pairing(2, 3, 3),
        Pairing(1, 2, 4),
        Pairing(0, 1, 5),
    ]


def test_two_meet_twice() -> None:
    assert list(play_at_once(PRIOR, 2, lower_wins)) == [Pairing(0, 1, 1), Pairing(0, 1, 2)]


def test_three_have_one_bye_in_each_bracket() -> None:
    # 0 has the bye; 1-2; 0-1. 2 has a bye in round 3, then meets the loser 1; final 0-1.
    results = play_at_once(PRIOR, 3, lower_wins, prior_scores=falling(3))
    assert sorted(results, key=lambda pairing: pairing.round) == [
        Pairing(1, 2, 1),
        Pairing(0, 1, 2),
        Pairing(1, 2, 4),
        Pairing(0, 1, 5),
    ]


def test_losers_of_round_two_enter_away_from_whom_they_met() -> None:
    # Winners of 8: 0-7 3-4 1-6 2-5, then 0-3 1-2. Losers: 7-4 -> 4, 6-5 -> 5; 4 meets 2, not 3; 5 meets 3.
    results = play_at_once(PRIOR, 8, lower_wins, prior_scores=falling(8))
    assert {pairing for pairing in results if pairing.round == 5} == {Pairing(2, 4, 5), Pairing(3, 5, 5)}
    assert max(pairing.round for pairing in results) == 3 * 3 - 1


@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_everybody_but_the_finalists_loses_twice(num_candidates: int) -> None:
    results = play_at_once(
        DoubleEliminationTopology(), num_candidates, random_results(num_candidates, (1.0, 0.0)), seed=num_candidates
    )
    losses = Counter(pairing.b if result == 1.0 else pairing.a for pairing, result in results.items())
    final = max(results, key=lambda pairing: pairing.round)
    champion = winner(final, results[final])
    assert champion is not None
    runner_up = final.a + final.b - champion
    assert all(losses[i] == 2 for i in range(num_candidates) if i not in (champion, runner_up))
    assert sorted((losses[champion], losses[runner_up])) in ([0, 2], [1, 1])


@pytest.mark.parametrize("seeding", ["random", "anchor", "prior"])
@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_the_best_wins_the_final_against_the_second_best(seeding: Seeding, num_candidates: int) -> None:
    strengths = {i: float((i * 7 + 3) % 37) for i in range(num_candidates)}
    results = play_at_once(DoubleEliminationTopology(seeding), num_candidates, by_strength(strengths), seed=9)
    final = max(results, key=lambda pairing: pairing.round)
    best, second = sorted(strengths, key=lambda i: -strengths[i])[:2]
    assert winner(final, results[final]) == best
    assert {final.a, final.b} == {best, second}


@pytest.mark.parametrize("missing", [0.5, None])
def test_without_a_winner_the_better_seed_advances_in_both_brackets(missing: float | None) -> None:
    prior_scores = falling(11)
    results = play_at_once(PRIOR, 11, lambda _: missing, prior_scores=prior_scores)
    assert set(results) == set(play_at_once(PRIOR, 11, lower_wins, prior_scores=prior_scores))


def test_a_random_draw_streams_into_the_losers_bracket() -> None:
    topology = DoubleEliminationTopology()
    opening = topology.playable(TournamentState(8, frozenset(range(8)), True, {}, 2))
    # The first two matches of the bracket share a losers' match; six slots are not there yet or did not play.
    arrived = frozenset({opening[0].a, opening[0].b, opening[1].a, opening[1].b})
    results = {opening[0]: 1.0, opening[1]: 1.0}
    playable = topology.playable(TournamentState(8, arrived, False, results, 2))
    assert len(playable) == 2
    assert {i for pairing in playable for i in (pairing.a, pairing.b)} == arrived
    assert {pairing.round for pairing in playable} == {2, 4}
