"""The `rewards` section of a recipe: judge, topology, aggregator, orders, gates, limits."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes
from rewards.gate_config import GateConfig
from rewards.judge_config import JudgeConfig
from rewards.scorer_config import ScorerConfig
from rewards.strict import ImportPath, StrictModel
from rewards.topology_config import Adaptive, RoundRobin, TopologyConfig


class CallLimits(StrictModel):
    """How judge calls are made."""

    max_concurrency: Annotated[int, Field(ge=1, le=65536)] = 64
    timeout_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """Deadline of one call, retries not included."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 4
    backoff_s: Annotated[float, Field(ge=0, le=600)] = 0.5
    """First wait between attempts; doubles each time, with seeded jitter."""
    down_after_s: Annotated[float, Field(gt=0, le=7 * 86400)] | None = 300.0
    """A judge that replies to nobody is waited for this long, then the run stops. None: its calls go missing."""


class CallBudget(StrictModel):
    """What a run may ask of its judge while it trains; evaluation is not counted. A retry is not another call.

    A topology that would exceed its group's share plays as far as the share goes, those first who have played least;
    what a step's groups do not need is handed on to those that would play on. The aggregator works with what is there.
    """

    calls_per_group: Annotated[int, Field(ge=1)] | None = None
    calls_per_step: Annotated[int, Field(ge=1)] | None = None
    """Of all groups of a step together."""
    calls_per_run: Annotated[int, Field(ge=1)] | None = None
    """When they are spent the run stops; raise it and resume."""


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
    budget: CallBudget = CallBudget()
    max_calls_per_step: Annotated[int, Field(ge=1)] | None = None
    """Refuses a recipe whose upper bound of judge calls per step is above this."""

    @model_validator(mode="after")
    def _one_budget_per_group(self) -> Self:
        if isinstance(self.topology, Adaptive) and self.budget.calls_per_group is not None:
            raise ValueError(
                "budget.calls_per_group: adaptive shares its calls over the batch; set topology.calls_per_group instead"
            )
        return self


class ScorerRewards(StrictModel):
    """Rewards from one function per rollout: a built-in `scorer`, or your own as `target`."""

    kind: Literal["scorer"]
    target: ImportPath | None = None
    """`(prompt, candidate) -> float`, or a mapping of segment names to numbers, or a `rewards.types.Scored`; may be
    async. None = unscored."""
    scorer: ScorerConfig | None = None
    gates: tuple[GateConfig, ...] = ()

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.target is None) == (self.scorer is None):
            raise ValueError("give a built-in scorer or your own target, one of the two")
        return self


RewardsConfig = Annotated[TournamentRewards | ScorerRewards, Field(discriminator="kind")]
