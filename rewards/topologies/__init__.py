"""Who meets whom: one file per kind, one explicit table from config to topology."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from rewards.topologies.adaptive import AdaptiveTopology
from rewards.topologies.anchor import AnchorTopology
from rewards.topologies.double_elimination import DoubleEliminationTopology
from rewards.topologies.heapsort import HeapsortTopology
from rewards.topologies.k_wise import KWiseTopology
from rewards.topologies.live_anchors import LiveAnchorTopology
from rewards.topologies.random_reference import RandomReferenceTopology
from rewards.topologies.repeated_knockout import RepeatedKnockoutTopology
from rewards.topologies.round_robin import RoundRobinTopology
from rewards.topologies.single_elimination import SingleEliminationTopology
from rewards.topologies.sliding_window import SlidingWindowTopology
from rewards.topologies.swiss import SwissTopology
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
from rewards.types import SlateTopology, Topology


def _anchor(config: Anchor) -> Topology:
    if config.anchors == "best_median_worst":
        return LiveAnchorTopology()
    return AnchorTopology(
        config.anchors,
        min_informativeness=config.min_informativeness,
        min_decided=config.min_decided,
        max_switches=config.max_switches,
    )


_BUILDERS: dict[type, Callable[[Any], Any]] = {
    RoundRobin: lambda config: RoundRobinTopology(),
    Anchor: _anchor,
    RandomReference: lambda config: RandomReferenceTopology(),
    SingleElimination: lambda config: SingleEliminationTopology(config.seeding),
    DoubleElimination: lambda config: DoubleEliminationTopology(config.seeding),
    Swiss: lambda config: SwissTopology(config.rounds, config.seeding),
    RepeatedKnockout: lambda config: RepeatedKnockoutTopology(config.repeats),
    SlidingWindow: lambda config: SlidingWindowTopology(config.passes, config.seeding),
    Heapsort: lambda config: HeapsortTopology(config.seeding),
    KWise: lambda config: KWiseTopology(config.k, config.rounds),
    Adaptive: lambda config: AdaptiveTopology(config.calls_per_group, config.rounds),
}


@overload
def build_topology(config: PairTopologyConfig) -> Topology: ...
@overload
def build_topology(config: KWise) -> SlateTopology: ...
def build_topology(config: TopologyConfig) -> Topology | SlateTopology:
    """The topology that a recipe's `rewards.topology` asks for."""
    return _BUILDERS[type(config)](config)
