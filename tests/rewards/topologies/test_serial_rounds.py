"""How long a tournament takes when every match takes one unit of time: the column of the README."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2

import pytest

from rewards.topologies import build_topology
from rewards.topology_config import (
    Anchor,
    DoubleElimination,
    PairTopologyConfig,
    RandomReference,
    RepeatedKnockout,
    RoundRobin,
    SingleElimination,
    SlidingWindow,
    Swiss,
)
from rewards.types import TournamentState
from tests.rewards.topologies.playing import Results, falling


def log(n: int) -> int:
    return ceil(log2(n))


STATED: list[tuple[PairTopologyConfig, Callable[[int], int]]] = [
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
    (SlidingWindow(kind="sliding_window", passes=4), lambda n: n + min(4, n - 1) - 2),
]


@pytest.mark.parametrize(("config", "stated"), STATED, ids=lambda value: getattr(value, "kind", ""))
def test_serial_rounds_are_at_most_as_stated_and_reach_it(
    config: PairTopologyConfig, stated: Callable[[int], int]
) -> None:
    topology, reached = build_topology(config), False
    for num_candidates in range(2, 34):
        # The best of the first order are the worst: the hardest case for the sorts.
        rounds, prior_scores = 0, falling(num_candidates)
        results: Results = {}
        while playable := topology.playable(
            TournamentState(num_candidates, frozenset(range(num_candidates)), True, results, 1, prior_scores)
        ):
            results.update(dict.fromkeys(playable, 0.0))
            rounds += 1
        assert rounds <= stated(num_candidates)
        reached = reached or (num_candidates > 8 and rounds == stated(num_candidates))
    assert reached
