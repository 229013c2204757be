"""How many matches a topology promises to everybody: what `min_verdicts` may ask for.

A slate of K counts K - 1 for each of its members, as aggregators count it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rewards.topologies.k_wise import slate_rounds, slate_sizes
from rewards.topologies.swiss import swiss_rounds
from rewards.topology_config import (
    Anchor,
    DoubleElimination,
    KWise,
    RepeatedKnockout,
    RoundRobin,
    SingleElimination,
    Swiss,
    TopologyConfig,
)

_LEAST: dict[type, Callable[[Any, int], int]] = {
    RoundRobin: lambda config, n: n - 1,
    Anchor: lambda config, n: min(3, n - 1) if config.anchors == "best_median_worst" else 1,
    SingleElimination: lambda config, n: 1 + (config.seeding == "anchor"),
    DoubleElimination: lambda config, n: 2 + (config.seeding == "anchor"),
    Swiss: lambda config, n: swiss_rounds(config.rounds, n) - n % 2,
    RepeatedKnockout: lambda config, n: config.repeats,
    KWise: lambda config, n: slate_rounds(config.k, config.rounds, n) * (max(2, min(slate_sizes(n, config.k))) - 1),
}
"""Kinds that promise no more than one match are not in it."""


def least_matches(config: TopologyConfig, num_candidates: int) -> int:
    """Matches of the one that plays least, when all of a group of N >= 2 arrive."""
    least = _LEAST.get(type(config))
    return least(config, num_candidates) if least is not None else 1
