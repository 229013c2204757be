"""Opens what a recipe's `rewards` ask for: judge, gates and the arena (or scorer) over them.

open_judge --starts--> judge (and its engine, if it has one)             closed when the context ends
make_sink  --------->  Arena or ScorerSink
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from launch.desk import Desk
from launch.devices import Device, judge_engine_spec
from rewards.arena import Arena
from rewards.budget import Spend
from rewards.cache import JudgeCache
from rewards.calibration import Calibration, load_pairs
from rewards.config import RewardsConfig, ScorerRewards, TournamentRewards
from rewards.errors import UserError
from rewards.gates import build_gates
from rewards.importing import check_takes, import_target
from rewards.judge_config import EngineJudge, JudgeConfig, PanelJudge, VerdictTokensJudge, has_engine
from rewards.judges import build_judge
from rewards.judges.panel import build_panel
from rewards.rubrics.store import CachedStore
from rewards.scorers import build_scorer
from rewards.scoring import ScorerSink
from rewards.topology_config import RoundRobin, SingleElimination
from rewards.types import AnyGate, CallHandler, Judge
from rollouts.engine_slot import start_engine, stop_engine
from rollouts.models import load_tokenizer, resolve_model
from rollouts.pool import actor_options
from rollouts.pooler import EnginePooler
from rollouts.token_scorer import EngineScorer


@asynccontextmanager
async def open_judge(
    config: JudgeConfig,
    *,
    device: Device,
    seed: int,
    base_dir: Path | None = None,
    cache: JudgeCache | None = None,
) -> AsyncIterator[Judge]:
    """The judge, ready to compare; one that runs in vLLM gets an engine that ends with the context.

    base_dir: where relative paths of templates and pairs start; default: the working directory. cache: where criteria
    are kept that a judge writes for prompts; default: in memory.
    """
    store = None if cache is None else CachedStore(cache)
    if isinstance(config, PanelJudge):
        async with AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(
                    open_judge(member.judge, device=device, seed=seed, base_dir=base_dir, cache=cache)
                )
                for member in config.members
            ]
            yield build_panel(config, members)
        return
    if not has_engine(config):
        judge = build_judge(config, resolve_model=resolve_model, seed=seed, base_dir=base_dir, criteria_store=store)
        try:
            yield judge
        finally:
            await judge.close()
        return
    model = resolve_model(config.model)
    spec = judge_engine_spec(config, model, device, seed)
    handle = await start_engine(spec, **actor_options(spec))
    try:
        judge = _judge_over(config, handle, model, seed=seed, base_dir=base_dir)
        try:
            yield judge
        finally:
            await judge.close()
    finally:
        await stop_engine(handle)


def _judge_over(config: EngineJudge, handle: Any, model: Path, *, seed: int, base_dir: Path | None) -> Judge:
    """A judge that asks its own engine."""
    tokenizer = load_tokenizer(model)
    if isinstance(config, VerdictTokensJudge):
        scorer = EngineScorer(handle, tokenizer, config.max_model_len)
        return build_judge(config, token_scorer=scorer, seed=seed, base_dir=base_dir)
    pooler = EnginePooler(handle, tokenizer, config.max_tokens)
    return build_judge(config, state_pooler=pooler, resolve_model=lambda _: model, seed=seed)


@asynccontextmanager
async def open_rewards(
    config: RewardsConfig,
    *,
    device: Device,
    seed: int,
    base_dir: Path | None = None,
    cache: JudgeCache | None = None,
) -> AsyncIterator[Judge | None]:
    """The judge of `rewards`, or None where rewards come from a scorer. cache: as in `open_judge`."""
    if isinstance(config, ScorerRewards):
        yield None
        return
    async with open_judge(config.judge, device=device, seed=seed, base_dir=base_dir, cache=cache) as judge:
        yield judge


def pairwise(config: RewardsConfig) -> RewardsConfig:
    """For evaluation: the same judge and gates, every pair once, whatever the topology of training.

    A bracket that seeds by a round of its own would let two meet twice, and a slate has no pair's verdict.
    """
    return ladder_rewards(config, "round_robin")


def ladder_rewards(config: RewardsConfig, ladder: Literal["round_robin", "knockout"]) -> RewardsConfig:
    """`pairwise`, or per group a bracket that is drawn by lot: fewer matches, and still nobody meets twice."""
    if not isinstance(config, TournamentRewards):
        return config
    knockout = SingleElimination(kind="single_elimination", seeding="random")
    return config.model_copy(update={"topology": RoundRobin() if ladder == "round_robin" else knockout})


def audit_rewards(config: RewardsConfig) -> TournamentRewards | None:
    """For a second judge: every pair once, and no gates, which would decide as they did before. None for scorers."""
    if not isinstance(config, TournamentRewards):
        return None
    return config.model_copy(update={"topology": RoundRobin(), "gates": ()})


def make_sink(
    config: RewardsConfig,
    judge: Judge | None,
    *,
    seed: int,
    carry_prior: bool,
    on_call: CallHandler | None = None,
    groups_per_step: int | None = None,
    spent: Spend = Spend(),
    desk: Desk = Desk(),
    gates: Sequence[AnyGate] | None = None,
) -> Arena | ScorerSink:
    """A fresh sink over an open judge; several sinks may share one judge.

    Budgets hold where `groups_per_step` is given; `spent` went out of the run's before. gates: those of `config`, where
    several sinks share them; default: of its own.
    """
    gates = build_gates(config.gates) if gates is None else gates
    if isinstance(config, TournamentRewards):
        assert judge is not None
        known = config.calibration if carry_prior else None
        scorer = None if config.prior_scorer is None else _function("prior_scorer", config.prior_scorer)
        return Arena(
            config,
            judge,
            gates,
            seed=seed,
            carry_prior=carry_prior,
            on_call=on_call,
            prior_scorer=scorer,
            groups_per_step=groups_per_step,
            spent=spent,
            limiter=desk.limiter,
            lines=desk.lines,
            calibration=None if known is None else Calibration(load_pairs(known.file), known.per_group),
        )
    if config.scorer is not None:
        return ScorerSink(build_scorer(config.scorer), gates, name=config.scorer.kind)
    assert config.target is not None
    return ScorerSink(_function("target", config.target), gates, name=config.target)


def _function(key: str, target: str) -> Callable[..., Any]:
    """Your own (prompt, candidate)."""
    function = import_target(target)
    if not callable(function):
        raise UserError(f"rewards.{key} {target!r} is no function; give a function (prompt, candidate)")
    check_takes(f"rewards.{key} {target!r}", function, "prompt", "candidate")
    return function
