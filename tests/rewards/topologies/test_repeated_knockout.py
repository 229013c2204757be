from __future__ import annotations

import pytest

from rewards.topologies.repeated_knockout import RepeatedKnockoutTopology
from rewards.topologies.single_elimination import SingleEliminationTopology
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import by_strength, lower_wins, play_at_once, winner


def test_two_meet_once_in_every_repetition() -> None:
    results = play_at_once(RepeatedKnockoutTopology(3), 2, lower_wins)
    assert list(results) == [Pairing(0, 1, 1), Pairing(0, 1, 2), Pairing(0, 1, 3)]


def test_all_repetitions_start_at_once_with_brackets_of_their_own() -> None:
    playable = RepeatedKnockoutTopology(4).playable(TournamentState(8, frozenset(range(8)), True, {}, 1))
    per_repeat = [{(p.a, p.b) for p in playable if p.round == 1 + 3 * repeat} for repeat in range(4)]
    assert [len(pairs) for pairs in per_repeat] == [4, 4, 4, 4]
    assert len({frozenset(pairs) for pairs in per_repeat}) > 1


def test_one_repetition_is_a_random_single_elimination() -> None:
    one, single = RepeatedKnockoutTopology(1), SingleEliminationTopology("random")
    assert play_at_once(one, 11, lower_wins, seed=6) == play_at_once(single, 11, lower_wins, seed=6)


@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_the_best_wins_every_final(num_candidates: int) -> None:
    strengths = {i: float((i * 7 + 3) % 37) for i in range(num_candidates)}
    results = play_at_once(RepeatedKnockoutTopology(3), num_candidates, by_strength(strengths), seed=8)
    rounds = (num_candidates - 1).bit_length()
    finals = [pairing for pairing in results if pairing.round % rounds == 0]
    assert len(finals) == 3
    best = max(strengths, key=strengths.__getitem__)
    assert all(winner(final, results[final]) == best for final in finals)


def test_it_streams_and_the_absent_are_byes() -> None:
    topology = RepeatedKnockoutTopology(2)
    opening = topology.playable(TournamentState(4, frozenset(range(4)), True, {}, 1))
    first = opening[0]
    assert first in topology.playable(TournamentState(4, frozenset({first.a, first.b}), False, {}, 1))
    assert len(play_at_once(topology, 4, lower_wins, seed=1, arrived=[0, 1, 3])) == 4
