"""The `rewards` section of a recipe: judge, topology, aggregator, orders, gates, limits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes
from rewards.gate_config import GateConfig
from rewards.judge_config import JudgeConfig
from rewards.strict import ImportPath, StrictModel
from rewards.topology_config import RoundRobin, TopologyConfig


class CallLimits(StrictModel):
    """How judge calls are made."""

    max_concurrency: Annotated[int, Field(ge=1, le=65536)] = 64
    timeout_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """Deadline of one call, retries not included."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 4
    backoff_s: Annotated[float, Field(ge=0, le=600)] = 0.5
    """First wait between attempts; doubles each time, with seeded jitter."""


class TournamentRewards(StrictModel):
    """Rewards from matches inside the group."""

    kind: Literal["tournament"] = "tournament"
    judge: JudgeConfig
    topology: TopologyConfig = RoundRobin()
    aggregator: AggregatorConfig = EmpiricalBayes()
    orders: Literal["first", "random", "both"] = "both"
    """`first`: the lower index is shown first; `random`: seeded coin per match; `both`: two calls per match.

    A slate of `k_wise` likewise: ascending, shuffled, or ascending and reversed."""
    prior_scorer: ImportPath | None = None
    """`(prompt, candidate) -> float`, cheap and sync, higher is better: what topologies that seed by `prior` go by."""
    gates: tuple[GateConfig, ...] = ()
    calls: CallLimits = CallLimits()
    min_verdicts: Annotated[int, Field(ge=1)] = 1
    """A rollout with fewer verdicts is unscored."""
    max_calls_per_step: Annotated[int, Field(ge=1)] | None = None
    """Refuses a recipe whose upper bound of judge calls per step is above this."""


class ScorerRewards(StrictModel):
    """Rewards from one function per rollout: `(prompt, candidate) -> float`."""

    kind: Literal["scorer"]
    target: ImportPath
    gates: tuple[GateConfig, ...] = ()


RewardsConfig = Annotated[TournamentRewards | ScorerRewards, Field(discriminator="kind")]
