"""Who meets whom: one file per kind, one explicit table from config to topology."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rewards.topologies.round_robin import RoundRobinTopology
from rewards.topologies.single_elimination import SingleEliminationTopology
from rewards.topology_config import RoundRobin, SingleElimination, TopologyConfig
from rewards.types import Topology

_BUILDERS: dict[type, Callable[[Any], Topology]] = {
    RoundRobin: lambda config: RoundRobinTopology(),
    SingleElimination: lambda config: SingleEliminationTopology(config.seeding),
}


def build_topology(config: TopologyConfig) -> Topology:
    """The topology that a recipe's `rewards.topology` asks for."""
    return _BUILDERS[type(config)](config)
