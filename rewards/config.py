"""The `rewards` section of a recipe: judge, topology, aggregator, orders, gates, limits."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewards.aggregator_config import (
    AggregatorConfig,
    BradleyTerry,
    Davidson,
    EmpiricalBayes,
    PlackettLuce,
    TrueSkill,
    WinRate,
)
from rewards.alarms import JudgeAlarm
from rewards.gate_config import GateConfig, gate_name
from rewards.judge_config import JudgeConfig, PanelJudge, is_symmetric, verdict_of
from rewards.scorer_config import ScorerConfig
from rewards.strict import ImportPath, StrictModel
from rewards.topology_config import Adaptive, KWise, RoundRobin, TopologyConfig
from rewards.types import Merge, Orders

WITH_A_NOISE_MODEL = (WinRate, BradleyTerry, Davidson, PlackettLuce, TrueSkill, EmpiricalBayes)
"""Aggregators that say how much of a group's reward is signal."""


class RateLimits(StrictModel):
    """What a judge's server allows; calls wait their turn, first come, first served."""

    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Requests, retries and each of a judge's votes included."""
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """In and out together: estimated before a call, corrected by what the judge says it took."""
    scope: Literal["run", "cluster"] = "run"
    """`cluster`: these limits and max_concurrency are shared by all runs on the Ray cluster that name the same."""
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What the runs of a cluster share; default: the judge's name."""


class CallLimits(StrictModel):
    """How judge calls are made."""

    max_concurrency: Annotated[int, Field(ge=1, le=65536)] = 64
    timeout_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    """Deadline of one call, retries not included."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 4
    backoff_s: Annotated[float, Field(ge=0, le=600)] = 0.5
    """First wait between attempts; doubles each time, with seeded jitter."""
    down_after_s: Annotated[float, Field(gt=0, le=7 * 86400)] | None = 300.0
    """A judge that replies to nobody is asked for this long, then the run stops. None: its calls go missing."""
    limits: RateLimits = RateLimits()


class CallBudget(StrictModel):
    """What a run may ask of its judge while it trains; evaluation is not counted. A retry is not another call;
    the request by which a rubric judge writes a prompt's criteria (`criteria_from: prompt`) is.

    A topology that would exceed its group's share plays as far as the share goes, those first who have played least;
    what a step's groups do not need is handed on to those that would play on. The aggregator works with what is there.
    """

    calls_per_group: Annotated[int, Field(ge=1)] | None = None
    calls_per_step: Annotated[int, Field(ge=1)] | None = None
    """Of all groups of a step together."""
    calls_per_run: Annotated[int, Field(ge=1)] | None = None
    """When they are spent the run stops; raise it and resume. Verdicts from the cache are not counted here."""
    tokens_per_step: Annotated[int, Field(ge=1)] | None = None
    """In and out together. When they are spent nothing more is asked in this step; calls at work are finished."""
    tokens_per_run: Annotated[int, Field(ge=1)] | None = None
    cost_per_step: Annotated[float, Field(gt=0)] | None = None
    """In the currency of the judge's prices; a judge without prices costs nothing. Likewise."""
    cost_per_run: Annotated[float, Field(gt=0)] | None = None


class CalibrationPairs(StrictModel):
    """Pairs whose better answer is known, put to the judge, or to every member of a panel, among the matches of
    training; they are in no match log. How many it gets right is `judge/calibration_accuracy`."""

    file: str
    """JSON Lines with the texts `prompt`, `better`, `worse`."""
    per_group: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How many for each group; a fraction is drawn by lot. Each is one call of each judge, in one order."""


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

    A slate of `k_wise` is shuffled, or shown ascending and reversed; `first` is refused there, since nothing would take
    out a lean to the first places."""
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
    cache: bool | Annotated[str, Field(min_length=1)] = True
    """Keep verdicts and never ask for one twice. true: `judge_cache.sqlite` in the run directory; a path: that file,
    which may serve many runs; false: no cache. A python judge takes part if it has a `version`."""
    calibration: CalibrationPairs | None = None
    alarms: tuple[JudgeAlarm, ...] = ()
    """Thresholds of the judge's health at each training step; several may warn early and stop late."""
    max_calls_per_step: Annotated[int, Field(ge=1)] | None = None
    """Refuses a recipe whose upper bound of judge calls per step is above this."""

    @model_validator(mode="after")
    def _orders_fit(self) -> Self:
        close, kind = self.orders == "both_if_close", verdict_of(self.judge)
        if isinstance(self.topology, KWise) and (close or self.merge != "sum"):
            raise ValueError("orders, merge: k_wise ranks slates, in `random` or `both` orders and by `sum`")
        if isinstance(self.topology, KWise) and self.orders == "first" and not is_symmetric(self.judge):
            raise ValueError(
                "orders: with `first`, k_wise would show lower slots first in every slate and pay them for a judge's "
                "lean to the first places; use `random`, or `both`"
            )
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
    def _alarms_can_ring(self) -> Self:
        one_order = self.orders not in ("both", "both_if_close")
        for number, alarm in enumerate(self.alarms):
            if alarm.max_order_flip_rate is not None and (one_order or is_symmetric(self.judge)):
                raise ValueError(f"alarms.{number}.max_order_flip_rate: this judge is never asked in both orders")
            if alarm.max_first_seat_bias is not None and is_symmetric(self.judge):
                raise ValueError(f"alarms.{number}.max_first_seat_bias: this judge cannot depend on the order")
            if alarm.min_reliability is not None and not isinstance(self.aggregator, WITH_A_NOISE_MODEL):
                raise ValueError(
                    f"alarms.{number}.min_reliability: {self.aggregator.kind} has no noise model, so there is none"
                )
            if alarm.min_calibration_accuracy is not None and self.calibration is None:
                raise ValueError(
                    f"alarms.{number}.min_calibration_accuracy: name pairs with known answers in rewards.calibration"
                )
            if alarm.min_judge_alpha is not None and not isinstance(self.judge, PanelJudge):
                raise ValueError(
                    f"alarms.{number}.min_judge_alpha: one judge alone agrees with nobody; use a panel, or "
                    "min_audit_agreement with a second judge"
                )
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
    def _weights_are_counted(self) -> Self:
        if isinstance(self.aggregator, TrueSkill) and isinstance(self.judge, PanelJudge):
            weights = {member.weight for member in self.judge.members}
            if self.judge.reputation is not None or weights != {1.0}:
                raise ValueError(
                    "aggregator: trueskill counts every verdict once, and this panel weighs them; choose another"
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
