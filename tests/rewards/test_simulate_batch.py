"""The batch simulator plays what it is told, within the limit, and keeps groups apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rewards.simulate import SimulatedJudge
from rewards.simulate_batch import play_batch
from rewards.types import MatchLog, Pairing, TournamentState


class _RingThenStar:
    """Opening: 0-1. Then, one match a round, candidate 0 meets everybody, in the first `num_groups` groups."""

    def __init__(self, num_groups: int) -> None:
        self.num_groups = num_groups
        self.seen_left: list[int | None] = []

    def playable(self, state: TournamentState) -> list[Pairing]:
        return [] if Pairing(0, 1) in state.results else [Pairing(0, 1)]

    def max_matches(self, num_candidates: int) -> int:
        return num_candidates - 1

    def next_round(
        self,
        states: Sequence[TournamentState],
        logs: Sequence[MatchLog],
        *,
        calls_per_match: int,
        calls_left: int | None,
    ) -> list[list[Pairing]]:
        assert [len(state.results) for state in states] == [len(log.matches) for log in logs]
        self.seen_left.append(calls_left)
        affordable = len(states) if calls_left is None else calls_left // calls_per_match
        plan: list[list[Pairing]] = []
        for index, state in enumerate(states):
            opponent = len(state.results) + 1
            wanted = index < self.num_groups and opponent < state.num_candidates and affordable > 0
            plan.append([Pairing(0, opponent)] if wanted else [])
            affordable -= wanted
        return plan


def test_rounds_are_played_until_none_is_named() -> None:
    logs = play_batch(_RingThenStar(1), SimulatedJudge(), np.zeros((2, 4)), np.random.default_rng(0))
    assert [[match.pairing for match in log.matches] for log in logs] == [
        [Pairing(0, 1), Pairing(0, 2), Pairing(0, 3)],
        [Pairing(0, 1)],
    ]


def test_the_limit_counts_calls_of_the_whole_batch() -> None:
    topology = _RingThenStar(2)
    logs = play_batch(
        topology,
        SimulatedJudge(failure_rate=0.3),
        np.zeros((2, 6)),
        np.random.default_rng(0),
        calls_per_group=5,
        orders="both",
    )
    assert topology.seen_left == [6, 2, 0]  # 10 in all; 4, then 4, then 2 are used
    assert [len(log.matches) for log in logs] == [3, 2]
    for match in (match for log in logs for match in log.matches):
        assert [(call.first, call.second) for call in match.calls] == [
            (match.pairing.a, match.pairing.b),
            (match.pairing.b, match.pairing.a),
        ]


def test_a_plan_over_the_limit_is_an_error() -> None:
    class Greedy(_RingThenStar):
        def next_round(
            self,
            states: Sequence[TournamentState],
            logs: Sequence[MatchLog],
            *,
            calls_per_match: int,
            calls_left: int | None,
        ) -> list[list[Pairing]]:
            return super().next_round(states, logs, calls_per_match=calls_per_match, calls_left=None)

    with pytest.raises(ValueError, match="planned 2 matches with 1 calls left"):
        play_batch(Greedy(2), SimulatedJudge(), np.zeros((3, 4)), np.random.default_rng(0), calls_per_group=2)


def test_a_group_does_not_see_how_much_the_others_play() -> None:
    strengths_GN = np.random.default_rng(1).standard_normal((3, 5))
    few, many = (
        play_batch(_RingThenStar(n), SimulatedJudge(seat_bias=1.0), strengths_GN, np.random.default_rng(7))
        for n in (1, 3)
    )
    assert few[0] == many[0]
    assert few[1].matches == many[1].matches[:1]
    assert {(call.first, call.second) for log in many for match in log.matches for call in match.calls} >= {
        (0, 1),
        (1, 0),
    }


def test_strengths_decide_and_symmetric_judges_have_fixed_seats() -> None:
    strengths_GN = np.tile(np.array([9.0, -9.0, -9.0]), (40, 1))
    logs = play_batch(_RingThenStar(40), SimulatedJudge(), strengths_GN, np.random.default_rng(2), symmetric=True)
    assert all(log.symmetric for log in logs)
    assert all(
        match.calls[0].first == 0 and match.calls[0].verdict.value == 1.0 for log in logs for match in log.matches
    )
