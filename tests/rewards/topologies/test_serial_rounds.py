"""How long a tournament takes when every match takes one unit of time: the column of the README."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2

import pytest

from rewards.topologies import build_topology
from rewards.topology_config import (
    Anchor,
    DoubleElimination,
    RandomReference,
    RepeatedKnockout,
    RoundRobin,
    SingleElimination,
    SlidingWindow,
    Swiss,
    TopologyConfig,
)
from rewards.types import TournamentState
from tests.rewards.topologies.playing import Results, random_results


def log(n: int) -> int:
    return ceil(log2(n))


STATED: list[tuple[TopologyConfig, Callable[[int], int]]] = [
    (RoundRobin(), lambda n: 1),
    (Anchor(kind="anchor", max_switches=0), lambda n: 1),
    (Anchor(kind="anchor"), lambda n: 2),
    (Anchor(kind="anchor", anchors="best_median_worst"), lambda n: 1 + max(0, ceil(log2(n / 3)))),
    (RandomReference(kind="random_reference"), lambda n: 1),
    (SingleElimination(kind="single_elimination", seeding="random"), log),
    (SingleElimination(kind="single_elimination", seeding="anchor"), lambda n: 1 + log(n)),
    (DoubleElimination(kind="double_elimination"), lambda n: 2 * log(n)),
    (Swiss(kind="swiss"), log),
    (RepeatedKnockout(kind="repeated_knockout"), log),
    (SlidingWindow(kind="sliding_window", passes=4), lambda n: n - 1 + 2 * (min(4, n - 1) - 1)),
]


@pytest.mark.parametrize(("config", "stated"), STATED, ids=lambda value: getattr(value, "kind", ""))
def test_serial_rounds_are_at_most_as_stated_and_reach_it(config: TopologyConfig, stated: Callable[[int], int]) -> None:
    topology, reached = build_topology(config), False
    for num_candidates in range(2, 34):
        rounds, result_of = 0, random_results(num_candidates, (0.0,))
        results: Results = {}
        while playable := topology.playable(
            TournamentState(num_candidates, frozenset(range(num_candidates)), True, results, 1)
        ):
            results.update({pairing: result_of(pairing) for pairing in playable})
            rounds += 1
        assert rounds <= stated(num_candidates)
        reached = reached or (num_candidates > 8 and rounds == stated(num_candidates))
    assert reached
