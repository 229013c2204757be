"""Opens what a recipe's `rewards` ask for: judge, gates and the arena (or scorer) over them.

open_judge --starts--> judge (and its engine, for verdict_tokens)        closed when the context ends
open_desk  --opens-->  limiter and cache, which all sinks over that judge share
make_sink  --------->  Arena or ScorerSink
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from launch.devices import Device, judge_engine_spec
from rewards.arena import Arena, local_limiter
from rewards.budget import Spend
from rewards.cache import JudgeCache, JudgeMemory
from rewards.config import RewardsConfig, ScorerRewards, TournamentRewards
from rewards.gates import build_gates
from rewards.importing import import_target
from rewards.judge_config import JudgeConfig, VerdictTokensJudge
from rewards.judges import build_judge
from rewards.judges.identity import judge_identity
from rewards.limiter import Limiter
from rewards.outage import Outage
from rewards.scoring import ScorerSink
from rewards.topology_config import RoundRobin
from rewards.types import CallHandler, Judge
from rollouts.engine_slot import start_engine, stop_engine
from rollouts.models import load_tokenizer, resolve_model
from rollouts.pool import actor_options
from rollouts.token_scorer import EngineScorer

CACHE_FILE = "judge_cache.sqlite"
"""In a run directory."""


@asynccontextmanager
async def open_judge(config: JudgeConfig, *, device: Device, seed: int) -> AsyncIterator[Judge]:
    """The judge, ready to compare; a verdict_tokens judge gets an engine that ends with the context."""
    if not isinstance(config, VerdictTokensJudge):
        judge = build_judge(config, resolve_model=resolve_model)
        try:
            yield judge
        finally:
            await judge.close()
        return
    model = resolve_model(config.model)
    spec = judge_engine_spec(config, model, device, seed)
    handle = await start_engine(spec, **actor_options(spec))
    try:
        scorer = EngineScorer(handle, load_tokenizer(model), config.max_model_len)
        judge = build_judge(config, token_scorer=scorer, seed=seed)
        try:
            yield judge
        finally:
            await judge.close()
    finally:
        await stop_engine(handle)


@asynccontextmanager
async def open_rewards(config: RewardsConfig, *, device: Device, seed: int) -> AsyncIterator[Judge | None]:
    """The judge of `rewards`, or None where rewards come from a scorer."""
    if isinstance(config, ScorerRewards):
        yield None
        return
    async with open_judge(config.judge, device=device, seed=seed) as judge:
        yield judge


@dataclass(frozen=True, slots=True)
class Desk:
    """What all sinks over one judge share. Without a limiter each sink has its own; without memory all is asked."""

    limiter: Limiter | None = None
    memory: JudgeMemory | None = None
    outage: Outage | None = None


def cache_path(config: RewardsConfig, run: Path | None) -> Path | None:
    """The file of verdicts: the recipe's, or the run's own where there is a run."""
    if not isinstance(config, TournamentRewards) or config.cache is False:
        return None
    if config.cache is True:
        return None if run is None else run / CACHE_FILE
    return Path(config.cache)


@asynccontextmanager
async def open_desk(
    config: RewardsConfig, judge: Judge | None, *, cache: JudgeCache | None = None, base_dir: Path | None = None
) -> AsyncIterator[Desk]:
    """Limiter and memory of the judge that `config.judge` describes; the cache stays the caller's."""
    if not isinstance(config, TournamentRewards) or judge is None:
        yield Desk()
        return
    limits = config.calls.limits
    if limits.scope == "cluster":
        from rewards.service import ClusterLimiter

        limiter: Limiter = await ClusterLimiter.join(limits.name or judge.name, config.calls)
    else:
        limiter = local_limiter(config.calls)
    model = getattr(config.judge, "model", None)
    identity = judge_identity(
        config.judge, directory=None if model is None else resolve_model(model), base_dir=base_dir
    )
    memory = None if cache is None or identity is None else JudgeMemory(cache, identity)
    yield Desk(limiter, memory, Outage(judge.name, config.calls.down_after_s))


@asynccontextmanager
async def open_cache(path: Path | None) -> AsyncIterator[JudgeCache | None]:
    """The cache at `path`, written to the end when the context ends; None without one."""
    if path is None:
        yield None
        return
    cache = JudgeCache(path)
    try:
        yield cache
    finally:
        await cache.close()


def pairwise(config: RewardsConfig) -> RewardsConfig:
    """For evaluation: the same judge and gates, every pair once, whatever the topology of training.

    A bracket that seeds by a round of its own would let two meet twice, and a slate has no pair's verdict.
    """
    if not isinstance(config, TournamentRewards):
        return config
    return config.model_copy(update={"topology": RoundRobin()})


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
) -> Arena | ScorerSink:
    """A fresh sink over an open judge; several sinks may share one judge.

    Budgets hold where `groups_per_step` is given; `spent` went out of the run's before.
    """
    gates = build_gates(config.gates)
    if isinstance(config, TournamentRewards):
        assert judge is not None
        scorer = import_target(config.prior_scorer) if config.prior_scorer is not None else None
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
            memory=desk.memory,
            outage=desk.outage,
        )
    return ScorerSink(import_target(config.target), gates, name=config.target)
