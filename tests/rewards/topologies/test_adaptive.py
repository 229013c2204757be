"""Adaptive: the budget, what settled and level groups get, and everything a real batch can be."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from rewards.aggregator_config import EmpiricalBayes
from rewards.aggregators import build_aggregator
from rewards.simulate import SimulatedJudge, fidelity, mixed_strengths
from rewards.simulate_batch import play_batch
from rewards.topologies.adaptive import AdaptiveTopology
from rewards.types import BatchTopology, Call, Match, MatchLog, Pairing, TournamentState, Verdict


def state(size: int, results: dict[Pairing, float | None], *, arrived: set[int] | None = None) -> TournamentState:
    return TournamentState(size, frozenset(arrived if arrived is not None else range(size)), True, results, seed=3)


def log(size: int, results: dict[Pairing, float | None], *, kind: str = "hard", calls: int = 1) -> MatchLog:
    matches = []
    for pairing, result in results.items():
        verdict = Verdict(None, "timeout") if result is None else Verdict(result)
        matches.append(Match(pairing, (Call(pairing.a, pairing.b, verdict, "j"),) * calls))
    return MatchLog(size, kind, tuple(matches), symmetric=True)  # type: ignore[arg-type]


def plan(topology: AdaptiveTopology, batch: Any, **options: object) -> list[list[Pairing]]:
    return topology.next_round(
        [state(size, results) for size, results in batch],
        [log(size, results) for size, results in batch],
        **({"calls_per_match": 1, "calls_left": None} | options),  # type: ignore[arg-type]
    )


def opening(size: int) -> dict[Pairing, float | None]:
    return dict.fromkeys(AdaptiveTopology().playable(state(size, {})), 1.0)


def test_it_is_a_batch_topology() -> None:
    assert isinstance(AdaptiveTopology(), BatchTopology)


@pytest.mark.parametrize("size", range(2, 34))
def test_the_opening_gives_everybody_a_match_and_nobody_two_but_the_odd_ones_partner(size: int) -> None:
    played = [i for pairing in opening(size) for i in (pairing.a, pairing.b)]
    assert set(played) == set(range(size))
    assert len(played) == size + size % 2


@pytest.mark.parametrize("arrived", [set(), {4}, {0, 5}, {1, 2, 6}, set(range(6))])
def test_the_opening_does_without_those_who_never_arrive(arrived: set[int]) -> None:
    pairings = AdaptiveTopology().playable(state(7, {}, arrived=arrived))
    assert {i for pairing in pairings for i in (pairing.a, pairing.b)} == (arrived if len(arrived) > 1 else set())


def test_the_opening_streams() -> None:
    order = AdaptiveTopology().playable(state(8, {}))
    early = TournamentState(8, frozenset({order[0].a, order[0].b}), False, {}, seed=3)
    assert AdaptiveTopology().playable(early) == [order[0]]


def test_the_budget_is_spent_to_the_last_call_and_never_passed() -> None:
    for calls_per_group, both_orders in ((5, False), (12, False), (13, True), (40, True)):
        rng = np.random.default_rng(calls_per_group)
        strengths = mixed_strengths(10, 8, equal_share=0.5, scale=2.0, rng=rng)
        logs = play_batch(
            AdaptiveTopology(calls_per_group),
            SimulatedJudge(),
            strengths,
            rng,
            orders="both" if both_orders else "random",
        )
        spent = sum(len(match.calls) for one in logs for match in one.matches)
        everything = 10 * 28 * (2 if both_orders else 1)
        assert spent <= min(10 * calls_per_group, everything)
        assert spent > min(10 * calls_per_group, everything) - (2 if both_orders else 1)


def test_a_budget_below_the_opening_buys_the_opening() -> None:
    rng = np.random.default_rng(0)
    strengths = mixed_strengths(4, 16, equal_share=0.5, scale=2.0, rng=rng)
    logs = play_batch(AdaptiveTopology(1), SimulatedJudge(), strengths, rng, orders="random")
    assert [len(one.matches) for one in logs] == [8] * 4


def test_a_limit_from_outside_is_kept_and_nothing_left_means_nothing_planned() -> None:
    batch = [(6, opening(6))] * 4
    assert sum(map(len, plan(AdaptiveTopology(30, rounds=1), batch, calls_left=7))) == 7
    assert sum(map(len, plan(AdaptiveTopology(30, rounds=1), batch, calls_left=7, calls_per_match=2))) == 3
    assert not any(plan(AdaptiveTopology(30), batch, calls_left=0))
    assert not any(plan(AdaptiveTopology(3), batch))  # the opening took it all


def test_no_pair_plays_twice_and_a_missing_verdict_is_a_gap() -> None:
    results: dict[Pairing, float | None] = {Pairing(a, b): None for a, b in combinations(range(4), 2)}
    missing = results.pop(Pairing(0, 3))
    assert missing is None
    assert plan(AdaptiveTopology(1000, rounds=1), [(4, results)]) == [[Pairing(0, 3, 1)]]
    results[Pairing(0, 3)] = None
    assert plan(AdaptiveTopology(1000, rounds=1), [(4, results)]) == [[]]


def test_rounds_come_to_an_end() -> None:
    rng = np.random.default_rng(0)
    strengths = mixed_strengths(6, 16, equal_share=0.0, scale=2.0, rng=rng)
    logs = play_batch(AdaptiveTopology(40, rounds=4), SimulatedJudge(), strengths, rng)
    assert {match.pairing.round for one in logs for match in one.matches} == {0, 1, 2, 3, 4}


def test_equal_states_get_equal_plans_and_the_order_of_groups_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    batch = [(size, {pairing: float(rng.integers(2)) for pairing in opening(size)}) for size in (6, 9, 6, 2, 9)]
    first = plan(AdaptiveTopology(12), batch)
    assert first == plan(AdaptiveTopology(12), batch)
    order = [3, 0, 4, 2, 1]
    moved = plan(AdaptiveTopology(12), [batch[i] for i in order])
    assert [set(pairings) for pairings in moved] == [set(first[i]) for i in order]


def test_decisive_groups_get_the_calls_of_level_ones() -> None:
    rng = np.random.default_rng(2)
    strengths = np.concatenate([np.zeros((24, 12)), 2.0 * rng.standard_normal((8, 12))])
    logs = play_batch(AdaptiveTopology(20), SimulatedJudge(), strengths, rng, symmetric=True)
    played = np.array([len(one.matches) for one in logs])
    assert played[24:].mean() > 2 * played[:24].mean()


def test_it_beats_random_pairs_at_the_same_number_of_calls() -> None:
    chosen, drawn = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        strengths = mixed_strengths(32, 12, equal_share=0.6, scale=2.0, rng=rng)
        logs = play_batch(AdaptiveTopology(18), SimulatedJudge(), strengths, rng, symmetric=True)
        chosen.append(rewards_fidelity(logs, strengths))
        logs = play_batch(RandomPairs(18), SimulatedJudge(), strengths, rng, symmetric=True)  # type: ignore[arg-type]
        drawn.append(rewards_fidelity(logs, strengths))
    assert np.mean(chosen) > np.mean(drawn) + 0.1


def rewards_fidelity(logs: list[MatchLog], strengths: np.ndarray) -> float:
    fitted, _ = build_aggregator(EmpiricalBayes()).fit(logs)
    return fidelity([np.array(one.rewards, dtype=float) for one in fitted], strengths)


class RandomPairs:
    """The same number of calls for every group, on pairs by lot."""

    def __init__(self, calls: int) -> None:
        self._calls = calls

    def playable(self, state: TournamentState) -> list[Pairing]:
        pairs = np.array(list(combinations(range(state.num_candidates), 2)))
        order = np.random.default_rng(state.seed).permutation(len(pairs))[: self._calls]
        pairings = [Pairing(int(a), int(b)) for a, b in pairs[order]]
        return [pairing for pairing in pairings if pairing not in state.results]

    def next_round(self, states: object, logs: list[MatchLog], **options: object) -> list[list[Pairing]]:
        return [[] for _ in logs]


@pytest.mark.parametrize("kind", ["hard", "probability", "score"])
@pytest.mark.parametrize("failure_rate", [0.0, 0.4, 1.0])
def test_any_kind_of_verdict_and_any_share_of_failures(kind: str, failure_rate: float) -> None:
    rng = np.random.default_rng(4)
    judge = SimulatedJudge(kind=kind, failure_rate=failure_rate, seat_bias=0.5)  # type: ignore[arg-type]
    strengths = mixed_strengths(5, 7, equal_share=0.3, scale=1.5, rng=rng)
    logs = play_batch(AdaptiveTopology(15), judge, strengths, rng, orders="both")
    assert sum(len(match.calls) for one in logs for match in one.matches) >= 5 * 14
    fitted, _ = build_aggregator(EmpiricalBayes()).fit(logs)
    assert all(np.isfinite([r for r in one.rewards if r is not None]).all() for one in fitted)


def test_nobody_or_one_alone_has_nothing_to_play() -> None:
    topology = AdaptiveTopology()
    for arrived in (set(), {2}):
        lonely = state(4, {}, arrived=arrived)
        assert topology.next_round([lonely], [log(4, {})], calls_per_match=1, calls_left=None) == [[]]
    assert topology.next_round([], [], calls_per_match=1, calls_left=None) == []
