"""What every topology promises, for N = 2..33 and any pattern of verdicts and arrivals.

A new kind adds its configs to KINDS, with its exact count where the format fixes it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from typing import get_args

import pytest

from rewards.topologies import build_topology
from rewards.topologies.least import least_matches
from rewards.topology_config import (
    Adaptive,
    Anchor,
    DoubleElimination,
    Heapsort,
    KWise,
    PairTopologyConfig,
    RandomReference,
    RepeatedKnockout,
    RoundRobin,
    SingleElimination,
    SlidingWindow,
    Swiss,
    TopologyConfig,
)
from rewards.types import Pairing, TournamentState
from tests.rewards.topologies.playing import ResultOf, by_strength, play_at_once, play_live, random_results

SIZES = range(2, 34)
VERDICTS: list[tuple[float | None, ...]] = [(1.0, 0.0), (1.0, 0.0, 0.5), (1.0, 0.0, 0.5, None), (None,)]


@dataclass(frozen=True)
class Kind:
    """exact: matches for N, None where only a bound holds. streams: some match can start before all have arrived."""

    config: PairTopologyConfig
    exact: Callable[[int], int] | None
    streams: bool
    random: bool = False
    equivariant: bool = False

    def __str__(self) -> str:
        return "-".join(str(value) for value in self.config.model_dump(exclude_defaults=True).values()) or "round_robin"


KINDS = [
    Kind(RoundRobin(), lambda n: n * (n - 1) // 2, streams=True, equivariant=True),
    Kind(Anchor(kind="anchor"), None, streams=True),
    Kind(Anchor(kind="anchor", max_switches=3, min_decided=2), None, streams=True),
    Kind(Anchor(kind="anchor", min_informativeness=0.0), lambda n: n - 1, streams=True),
    Kind(Anchor(kind="anchor", anchors="median"), None, streams=False, random=True, equivariant=True),
    Kind(
        Anchor(kind="anchor", anchors="best_median_worst"),
        lambda n: 3 * n - 6 if n > 2 else 1,
        streams=True,
    ),
    Kind(RandomReference(kind="random_reference"), lambda n: n - 1, streams=True, random=True),
    Kind(SingleElimination(kind="single_elimination", seeding="random"), lambda n: n - 1, streams=True, random=True),
    Kind(SingleElimination(kind="single_elimination", seeding="anchor"), lambda n: 2 * n - 2, streams=True),
    Kind(SingleElimination(kind="single_elimination", seeding="prior"), lambda n: n - 1, False, True, True),
    Kind(DoubleElimination(kind="double_elimination"), lambda n: 2 * n - 2, streams=True, random=True),
    Kind(DoubleElimination(kind="double_elimination", seeding="anchor"), lambda n: 3 * n - 3, streams=True),
    Kind(DoubleElimination(kind="double_elimination", seeding="prior"), lambda n: 2 * n - 2, False, True, True),
    Kind(Swiss(kind="swiss"), lambda n: n // 2 * ceil(log2(n)), streams=True, random=True),
    Kind(Swiss(kind="swiss", rounds=7, seeding="prior"), None, False, True, True),
    Kind(RepeatedKnockout(kind="repeated_knockout", repeats=3), lambda n: 3 * (n - 1), streams=True, random=True),
    Kind(SlidingWindow(kind="sliding_window", passes=1, seeding="prior"), lambda n: n - 1, False, True, True),
    Kind(SlidingWindow(kind="sliding_window", passes=4, seeding="random"), None, streams=True, random=True),
    Kind(SlidingWindow(kind="sliding_window", seeding="prior"), None, False, True, True),
    Kind(Heapsort(kind="heapsort", seeding="prior"), None, False, True, True),
]

RANDOM = [kind for kind in KINDS if kind.random]
EQUIVARIANT = [kind for kind in KINDS if kind.equivariant]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
every_size = pytest.mark.parametrize("num_candidates", SIZES)


def transitive(world: int, num_candidates: int) -> ResultOf:
    return by_strength(dict(enumerate(random.Random(world).sample(range(num_candidates), num_candidates))))


@every_kind
@every_size
class TestContract:
    def test_it_ends_and_the_count_is_as_announced(self, kind: Kind, num_candidates: int) -> None:
        topology = build_topology(kind.config)
        patterns = [random_results(num_candidates, values) for values in VERDICTS]
        for result_of in [*patterns, transitive(num_candidates, num_candidates)]:
            results = play_at_once(topology, num_candidates, result_of, seed=num_candidates + 1)
            played = Counter(i for pairing in results for i in (pairing.a, pairing.b))
            assert set(played) == set(range(num_candidates))
            assert min(played.values()) >= least_matches(kind.config, num_candidates)
            if kind.exact is not None:
                assert len(results) == topology.max_matches(num_candidates) == kind.exact(num_candidates)

    def test_who_meets_whom_does_not_depend_on_when_they_arrive(self, kind: Kind, num_candidates: int) -> None:
        rng = random.Random(1000 + num_candidates)
        topology, result_of = build_topology(kind.config), random_results(num_candidates)
        prior_scores = {i: float(rng.randrange(5)) for i in range(num_candidates) if rng.random() < 0.8}
        at_once = play_at_once(topology, num_candidates, result_of, seed=5, prior_scores=prior_scores)
        live = play_live(topology, num_candidates, result_of, rng, seed=5, prior_scores=prior_scores)
        assert live == at_once

    def test_those_who_never_arrive_are_not_waited_for(self, kind: Kind, num_candidates: int) -> None:
        rng = random.Random(2000 + num_candidates)
        topology, result_of = build_topology(kind.config), random_results(num_candidates)
        arrivals = rng.sample(range(num_candidates), rng.randint(0, num_candidates - 1))
        live = play_live(topology, num_candidates, result_of, rng, seed=7, arrivals=arrivals)
        assert live == play_at_once(topology, num_candidates, result_of, seed=7, arrived=arrivals)
        expected = set(arrivals) if len(arrivals) > 1 else set()
        assert {i for pairing in live for i in (pairing.a, pairing.b)} == expected
        if kind.exact is not None and len(arrivals) > 1:
            assert len(live) == kind.exact(len(arrivals))


@pytest.mark.parametrize("kind", RANDOM, ids=str)
def test_lots_come_from_the_seed(kind: Kind) -> None:
    def first(seed: int) -> tuple[Pairing, ...]:
        state = TournamentState(16, frozenset(range(16)), True, {}, seed)
        return tuple(build_topology(kind.config).playable(state))

    assert all(first(seed) == first(seed) for seed in (0, 1, 2**63))
    assert len({first(seed) for seed in range(12)}) > 6


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.random], ids=str)
def test_formats_without_lots_open_alike_for_every_seed(kind: Kind) -> None:
    states = [TournamentState(16, frozenset(range(16)), True, {}, seed) for seed in range(4)]
    assert len({tuple(build_topology(kind.config).playable(state)) for state in states}) == 1


@pytest.mark.parametrize("kind", EQUIVARIANT, ids=str)
@pytest.mark.parametrize("num_candidates", [2, 3, 7, 16, 21])
def test_new_names_change_only_the_names(kind: Kind, num_candidates: int) -> None:
    rng = random.Random(num_candidates)
    topology = build_topology(kind.config)
    scores = {i: float(score) for i, score in enumerate(rng.sample(range(100), num_candidates))}
    renamed = rng.sample(range(num_candidates), num_candidates)
    result_of = random_results(4)

    def seen_under_new_names(pairing: Pairing) -> tuple[Pairing, float | None]:
        a, b, result = renamed[pairing.a], renamed[pairing.b], result_of(pairing)
        if a < b:
            return Pairing(a, b, pairing.round), result
        return Pairing(b, a, pairing.round), None if result is None else 1.0 - result

    old = play_at_once(topology, num_candidates, result_of, prior_scores=scores)
    expected = dict(seen_under_new_names(pairing) for pairing in old)
    old_name = {new: i for i, new in enumerate(renamed)}

    def new_result_of(pairing: Pairing) -> float | None:
        i, j = old_name[pairing.a], old_name[pairing.b]
        return seen_under_new_names(Pairing(min(i, j), max(i, j), pairing.round))[1]

    new = play_at_once(
        topology, num_candidates, new_result_of, prior_scores={renamed[i]: score for i, score in scores.items()}
    )
    assert new == expected


@every_kind
def test_a_format_that_can_start_early_does(kind: Kind) -> None:
    started = [
        bool(build_topology(kind.config).playable(TournamentState(8, frozenset(range(8)) - {late}, False, {}, 1)))
        for late in range(8)
    ]
    assert any(started) == kind.streams


@every_kind
@pytest.mark.parametrize("arrived", [[], [3]])
@pytest.mark.parametrize("closed", [False, True])
def test_nobody_plays_alone(kind: Kind, arrived: list[int], closed: bool) -> None:
    assert build_topology(kind.config).playable(TournamentState(5, frozenset(arrived), closed, {})) == []


@every_kind
def test_more_candidates_never_have_a_smaller_bound(kind: Kind) -> None:
    bounds = [build_topology(kind.config).max_matches(n) for n in range(1, 65)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0


def test_every_kind_of_the_recipe_is_under_contract() -> None:
    """Kinds whose later rounds are planned over a batch, and kinds that name slates, have their own contracts."""
    elsewhere = {Adaptive, KWise}
    assert {type(kind.config) for kind in KINDS} | elsewhere == set(get_args(get_args(TopologyConfig)[0]))
