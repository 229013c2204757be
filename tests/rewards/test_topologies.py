"""The contract of every topology, and what each kind promises on top."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.topologies import build_topology
from rewards.topologies.single_elimination import bracket_order
from rewards.topology_config import RoundRobin, SingleElimination, TopologyConfig
from rewards.types import Pairing, Topology, TournamentState

ROUND_ROBIN = RoundRobin()
RANDOM_BRACKET = SingleElimination(kind="single_elimination", seeding="random")
ANCHOR_BRACKET = SingleElimination(kind="single_elimination", seeding="anchor")
KINDS = [ROUND_ROBIN, RANDOM_BRACKET, ANCHOR_BRACKET]

RESULTS = [1.0, 0.0, 0.5, None]


def play_all(
    topology: Topology,
    num_candidates: int,
    result_of: Callable[[Pairing], float | None],
    *,
    seed: int = 0,
    arrivals: list[int] | None = None,
    rng: random.Random | None = None,
) -> dict[Pairing, float | None]:
    """Plays to the end; with `rng`, arrivals, matches and the closing are interleaved at random."""
    order = list(range(num_candidates)) if arrivals is None else arrivals
    results: dict[Pairing, float | None] = {}
    arrived: set[int] = set() if rng else set(order)
    pending = list(order) if rng else []
    closed = rng is None
    while True:
        state = TournamentState(num_candidates, frozenset(arrived), closed, dict(results), seed)
        playable = topology.playable(state)
        assert not set(playable) & set(results), "a pairing was played already"
        assert len(set(playable)) == len(playable)
        assert all({pairing.a, pairing.b} <= arrived for pairing in playable)
        if rng and (pending or not closed) and (not playable or rng.random() < 0.5):
            if pending:
                arrived.add(pending.pop(0))
            else:
                closed = True
        elif playable:
            pairing = rng.choice(playable) if rng else playable[0]
            results[pairing] = result_of(pairing)
            assert len(results) <= topology.max_matches(num_candidates)
        elif closed:
            return results


@pytest.mark.parametrize("config", KINDS, ids=str)
class TestContract:
    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_every_pattern_of_arrivals_and_results_ends_within_max_matches(
        self, config: TopologyConfig, data: st.DataObject
    ) -> None:
        num_candidates = data.draw(st.integers(1, 12))
        slots = list(range(num_candidates))
        arrivals = data.draw(st.permutations(slots))[: data.draw(st.integers(0, num_candidates))]
        rng = random.Random(data.draw(st.integers(0, 2**32)))
        outcomes = random.Random(data.draw(st.integers(0, 2**32)))
        play_all(
            build_topology(config),
            num_candidates,
            lambda _: outcomes.choice(RESULTS),
            seed=data.draw(st.integers(0, 2**63)),
            arrivals=arrivals,
            rng=rng,
        )

    @settings(deadline=None, max_examples=60)
    @given(num_candidates=st.integers(2, 10), seed=st.integers(0, 2**63), world=st.integers(0, 2**32))
    def test_who_meets_whom_does_not_depend_on_arrival_order(
        self, config: TopologyConfig, num_candidates: int, seed: int, world: int
    ) -> None:
        rng = random.Random(world)
        arrivals = rng.sample(range(num_candidates), num_candidates)

        def result_of(pairing: Pairing) -> float | None:
            return random.Random(hash((world, pairing.a, pairing.b, pairing.round))).choice(RESULTS)

        at_once = play_all(build_topology(config), num_candidates, result_of, seed=seed)
        streamed = play_all(
            build_topology(config), num_candidates, result_of, seed=seed, arrivals=arrivals, rng=random.Random(world)
        )
        assert streamed == at_once

    @pytest.mark.parametrize("num_candidates", range(2, 34))
    def test_match_count_is_exact(self, config: TopologyConfig, num_candidates: int) -> None:
        topology = build_topology(config)
        if isinstance(config, RoundRobin):
            exact = num_candidates * (num_candidates - 1) // 2
        else:
            exact = (num_candidates - 1) * (2 if config.seeding == "anchor" else 1)
        rng = random.Random(num_candidates)
        results = play_all(topology, num_candidates, lambda _: rng.choice(RESULTS))
        assert len(results) == topology.max_matches(num_candidates) == exact
        assert {i for pairing in results for i in (pairing.a, pairing.b)} == set(range(num_candidates))

    @pytest.mark.parametrize("arrived", [[], [3]])
    def test_nobody_plays_alone(self, config: TopologyConfig, arrived: list[int]) -> None:
        assert play_all(build_topology(config), 5, lambda _: 1.0, arrivals=arrived) == {}


def test_round_robin_plays_a_pair_as_soon_as_both_have_arrived() -> None:
    state = TournamentState(8, frozenset({2, 5, 6}), False, {Pairing(2, 6): None})
    assert build_topology(ROUND_ROBIN).playable(state) == [Pairing(2, 5), Pairing(5, 6)]


def test_bracket_order_is_the_standard_one() -> None:
    assert bracket_order(8) == [0, 7, 3, 4, 1, 6, 2, 5]
    for size in (2, 4, 8, 16, 32):
        order = bracket_order(size)
        assert sorted(order) == list(range(size))
        assert all(order[k] + order[k + 1] == size - 1 for k in range(0, size, 2))


def better_index_wins(pairing: Pairing) -> float:
    return 1.0


@pytest.mark.parametrize("num_candidates", range(2, 34))
def test_best_seeds_have_the_byes(num_candidates: int) -> None:
    topology = build_topology(ANCHOR_BRACKET)
    results = play_all(topology, num_candidates, better_index_wins)
    num_rounds = ceil(log2(num_candidates))
    num_byes = 2**num_rounds - num_candidates
    first_round = [pairing for pairing in results if pairing.round == 1]
    assert len(first_round) == num_candidates - 2 ** (num_rounds - 1)
    waiting = set(range(num_candidates)) - {i for pairing in first_round for i in (pairing.a, pairing.b)}
    assert len(waiting) == num_byes
    assert num_byes == 0 or 0 in waiting, "the anchor beat everybody, so it is the best seed"
    assert max(pairing.round for pairing in results) == num_rounds


def test_six_seeds_give_byes_to_the_best_two() -> None:
    # Against the anchor 0: 1 and 2 win, 3 and 4 are level, 5 loses. The anchor's mean is (.5 + .5 + 1) / 5 = .4.
    against_anchor = {1: 0.0, 2: 0.0, 3: 0.5, 4: 0.5, 5: 1.0}

    def result_of(pairing: Pairing) -> float:
        return against_anchor[pairing.b] if pairing.round == 0 else 1.0

    results = play_all(build_topology(ANCHOR_BRACKET), 6, result_of)
    first_round = {frozenset((pairing.a, pairing.b)) for pairing in results if pairing.round == 1}
    # Seeds 1..6 are {1,2}, {3,4}, 0, 5: the bracket is 1-bye, 4-5, 2-bye, 3-6.
    assert len(first_round) == 2
    assert all(not {1, 2} & pair for pair in first_round)
    (with_anchor,) = [pair for pair in first_round if 0 in pair]
    (with_last,) = [pair for pair in first_round if 5 in pair]
    assert with_anchor & {3, 4}
    assert with_last & {3, 4}
    assert with_anchor != with_last


@pytest.mark.parametrize("missing", [0.5, None])
def test_a_tie_or_a_missing_verdict_advances_the_better_seed(missing: float | None) -> None:
    # Against anchor 0: 1 wins, 2 and 3 lose. Seeds: 1, 0 (mean 2/3), then 2 and 3 by lot; no bracket match is decided.
    def result_of(pairing: Pairing) -> float | None:
        return (0.0 if pairing.b == 1 else 1.0) if pairing.round == 0 else missing

    results = play_all(build_topology(ANCHOR_BRACKET), 4, result_of)
    (final,) = [pairing for pairing in results if pairing.round == 2]
    assert final == Pairing(0, 1, 2)


def test_the_anchors_second_meeting_is_a_pairing_of_its_own() -> None:
    results = play_all(build_topology(ANCHOR_BRACKET), 2, lambda _: 1.0)
    assert list(results) == [Pairing(0, 1, 0), Pairing(0, 1, 1)]


def test_anchor_round_streams_and_the_bracket_waits_for_everybody() -> None:
    topology = build_topology(ANCHOR_BRACKET)
    assert topology.playable(TournamentState(4, frozenset({1, 3}), False, {})) == []
    assert topology.playable(TournamentState(4, frozenset({0, 3}), False, {})) == [Pairing(0, 3)]
    assert topology.playable(TournamentState(4, frozenset({0, 3}), False, {Pairing(0, 3): 1.0})) == []
    closed = TournamentState(4, frozenset({0, 3}), True, {Pairing(0, 3): 1.0})
    assert topology.playable(closed) == [Pairing(0, 3, 1)]


def test_without_slot_0_the_lowest_arrived_slot_is_the_anchor() -> None:
    state = TournamentState(4, frozenset({1, 2, 3}), True, {})
    assert build_topology(ANCHOR_BRACKET).playable(state) == [Pairing(1, 2), Pairing(1, 3)]


def test_seeds_change_the_bracket_and_equal_seeds_do_not() -> None:
    topology = build_topology(RANDOM_BRACKET)
    brackets = [
        tuple(topology.playable(TournamentState(8, frozenset(range(8)), True, {}, seed))) for seed in (1, 1, 2, 3)
    ]
    assert brackets[0] == brackets[1]
    assert len(set(brackets)) == 3


def test_an_upset_goes_through_to_the_final() -> None:
    # 5 beats everybody it meets: N=8, three rounds.
    def result_of(pairing: Pairing) -> float:
        return 0.0 if pairing.b == 5 else 1.0

    results = play_all(build_topology(RANDOM_BRACKET), 8, result_of)
    assert sum(5 in (pairing.a, pairing.b) for pairing in results) == 3
