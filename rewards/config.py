"""The `rewards` section of a recipe: judge, topology, aggregator, orders, gates, limits."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes
from rewards.gate_config import GateConfig, gate_name
from rewards.judge_config import JudgeConfig, is_symmetric, verdict_of
from rewards.strict import ImportPath, StrictModel
from rewards.topology_config import Adaptive, KWise, RoundRobin, TopologyConfig
from rewards.types import Merge, Orders


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


class RouterConfig(StrictModel):
    """Pairs that a verifiable score tells apart are decided by it, and the judge is spared (`rewards/router.py`)."""

    gate: str
    """Name of the soft gate whose score decides: the higher one wins. Give it weight 0 to use it for this only."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Pairs whose scores are this close, or closer, go to the judge."""


class TournamentRewards(StrictModel):
    """Rewards from matches inside the group."""

    kind: Literal["tournament"] = "tournament"
    judge: JudgeConfig
    topology: TopologyConfig = RoundRobin()
    aggregator: AggregatorConfig = EmpiricalBayes()
    orders: Orders = "both"
    """`first`: the lower index is shown first; `random`: seeded coin per match; `both`: two calls per match;
    `both_if_close`: one by the coin, and the other order too where the first verdict is close to a tie.

    A slate of `k_wise` likewise: ascending, shuffled, or ascending and reversed."""
    close_margin: Annotated[float, Field(gt=0)] | None = None
    """Of `both_if_close`: how far from a tie is close. A probability from one half, default 0.25; a score from 0 in the
    judge's own units, to be stated; a hard verdict is close when it is a tie."""
    merge: Merge = "sum"
    """Two orders of a match, when they are scored. `sum`: each verdict counts. `agree_else_tie`: verdicts that do not
    name one winner count as ties. The match log keeps what was said, and evaluation goes by the mean of both."""
    prior_scorer: ImportPath | None = None
    """`(prompt, candidate) -> float`, cheap and sync, higher is better: what topologies that seed by `prior` go by."""
    gates: tuple[GateConfig, ...] = ()
    router: RouterConfig | None = None
    calls: CallLimits = CallLimits()
    min_verdicts: Annotated[int, Field(ge=1)] = 1
    """A rollout with fewer verdicts is unscored."""
    budget: CallBudget = CallBudget()
    max_calls_per_step: Annotated[int, Field(ge=1)] | None = None
    """Refuses a recipe whose upper bound of judge calls per step is above this."""

    @model_validator(mode="after")
    def _orders_fit(self) -> Self:
        close, kind = self.orders == "both_if_close", verdict_of(self.judge)
        if isinstance(self.topology, KWise) and (close or self.merge != "sum"):
            raise ValueError("orders, merge: k_wise ranks slates, in `first`, `random` or `both` orders and by `sum`")
        if self.close_margin is not None and (not close or kind == "hard"):
            raise ValueError(
                "close_margin: belongs to `both_if_close` and verdicts that are no wins or ties; leave it out"
            )
        if close and kind == "score" and not is_symmetric(self.judge) and self.close_margin is None:
            raise ValueError("close_margin: state what is close in the units of this judge's scores")
        if self.close_margin is not None and kind == "probability" and self.close_margin > 0.5:
            raise ValueError("close_margin: a probability is at most 0.5 away from one half; `both` asks always")
        return self

    @model_validator(mode="after")
    def _router_decides(self) -> Self:
        if self.router is None:
            return self
        soft = [gate_name(gate) for gate in self.gates if gate.soft]
        if self.router.gate not in soft:
            known = f"soft gates: {', '.join(soft)}" if soft else "there is no soft gate"
            raise ValueError(f"router.gate: no soft gate is called '{self.router.gate}'; {known}")
        if isinstance(self.topology, KWise):
            raise ValueError("router: k_wise asks about several at once, and a router decides pairs; leave it out")
        if verdict_of(self.judge) == "score":
            raise ValueError(
                "router: it decides who wins, and this judge gives scores, which have no number for that; "
                "choose a judge with hard verdicts or probabilities"
            )
        return self

    @model_validator(mode="after")
    def _one_budget_per_group(self) -> Self:
        if isinstance(self.topology, Adaptive) and self.budget.calls_per_group is not None:
            raise ValueError(
                "budget.calls_per_group: adaptive shares its calls over the batch; set topology.calls_per_group instead"
            )
        return self


class ScorerRewards(StrictModel):
    """Rewards from one function per rollout: `(prompt, candidate) -> float`."""

    kind: Literal["scorer"]
    target: ImportPath
    gates: tuple[GateConfig, ...] = ()


RewardsConfig = Annotated[TournamentRewards | ScorerRewards, Field(discriminator="kind")]
