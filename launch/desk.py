"""What all sinks over one judge share: one limiter, one memory of verdicts, one eye on whether it is down.

judge and its config --make_desk--> Desk --make_sink--> training, evaluation, every request of the service
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launch.run_dir import JUDGE_CACHE
from rewards.arena import local_limiter
from rewards.cache import JudgeCache, JudgeMemory
from rewards.calling import Line
from rewards.config import RewardsConfig, TournamentRewards
from rewards.judge_config import JudgeConfig, PanelJudge
from rewards.judges.identity import judge_identity
from rewards.judges.panel import Panel
from rewards.limiter import Limiter
from rewards.outage import Outage
from rewards.types import Judge
from rollouts.models import resolve_model


@dataclass(frozen=True, slots=True)
class Desk:
    """Without a limiter each sink has its own; a judge without a line is asked everything.

    limiter: of a judge, or of all members of a panel together. lines: by the judge's name, or by those of the members.
    """

    limiter: Limiter | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)


async def make_desk(
    config: RewardsConfig, judge: Judge | None, *, cache: JudgeCache | None = None, base_dir: Path | None = None
) -> Desk:
    """The desk of the judge that `config.judge` describes; the cache stays the caller's.

    Raises:
        UserError: other runs on the cluster share the limiter's name with other limits.
    """
    if not isinstance(config, TournamentRewards) or judge is None:
        return Desk()
    limits = config.calls.limits
    if limits.scope == "cluster":
        from rewards.service import ClusterLimiter

        limiter: Limiter = await ClusterLimiter.join(limits.name or judge.name, config.calls)
    else:
        limiter = local_limiter(config.calls)
    seats: list[tuple[Judge, JudgeConfig]] = [(judge, config.judge)]
    if isinstance(judge, Panel) and isinstance(config.judge, PanelJudge):
        members = zip(judge.members, config.judge.members, strict=True)
        seats = [(member, its_config.judge) for member, its_config in members]
    lines = {
        member.name: Line(
            _memory(cache, its_config, base_dir, in_panel=isinstance(judge, Panel)),
            Outage(member.name, config.calls.down_after_s),
        )
        for member, its_config in seats
    }
    return Desk(limiter, lines)


def _memory(
    cache: JudgeCache | None, config: JudgeConfig, base_dir: Path | None, *, in_panel: bool
) -> JudgeMemory | None:
    model = getattr(config, "model", None)
    directory = None if model is None else resolve_model(model)
    identity = judge_identity(config, directory=directory, base_dir=base_dir, in_panel=in_panel)
    return None if cache is None or identity is None else JudgeMemory(cache, identity)


def cache_path(config: RewardsConfig, run: Path | None) -> Path | None:
    """The file of verdicts: the recipe's, or the run's own where there is a run."""
    if not isinstance(config, TournamentRewards) or config.cache is False:
        return None
    if config.cache is True:
        return None if run is None else run / JUDGE_CACHE
    return Path(config.cache)


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
