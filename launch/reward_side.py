"""The reward side by itself, for commands that score answers which are there already.

open_reward_side --> gates --> Ray (only where a judge's engine or a cluster's limiter needs it) --> judge --> limiter,
                     cache --> RewardSide.sink(): as many sinks as wanted, over the one judge and the same gates
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from launch.desk import Desk, cache_path, make_desk, open_cache
from launch.devices import resolve_device
from launch.judging import make_sink, open_rewards
from launch.session import ray_session
from recipes.reward import LoadedRewards
from rewards.arena import Arena, local_limiter
from rewards.calling import Caller, Line
from rewards.config import RewardsConfig, ScorerRewards, TournamentRewards
from rewards.errors import UserError
from rewards.gate_config import gate_fields
from rewards.gates import build_gates
from rewards.judge_config import ProgramJudge, has_engine, single_judges
from rewards.ledger import Ledger
from rewards.program_config import reference_field
from rewards.scoring import ScorerSink
from rewards.types import AnyGate, Call, CallHandler, GroupKey, Judge, Ranking


@dataclass(frozen=True, slots=True)
class RewardSide:
    """An open judge (None: rewards come from a scorer), what all sinks over it share, and the ledger of their calls."""

    config: RewardsConfig
    seed: int
    judge: Judge | None
    gates: Sequence[AnyGate]
    desk: Desk
    ledger: Ledger
    file: Path
    """The recipe's, for messages."""

    def sink(self, *, carry_prior: bool = False, on_call: CallHandler | None = None) -> Arena | ScorerSink:
        def record(key: GroupKey, call: Call | Ranking) -> None:
            self.ledger.record("scoring", call)
            if on_call is not None:
                on_call(key, call)

        with _named(self.file):
            return make_sink(
                self.config,
                self.judge,
                seed=self.seed,
                carry_prior=carry_prior,
                on_call=record,
                desk=self.desk,
                gates=self.gates,
            )

    def caller(self) -> Caller | None:
        """For single calls; None where there is no judge that compares two."""
        if not isinstance(self.config, TournamentRewards) or not isinstance(self.judge, Judge):
            return None
        limiter = self.desk.limiter or local_limiter(self.config.calls)
        line = self.desk.lines.get(self.judge.name, Line())  # a panel compares as one, and remembers nothing then
        return Caller(self.judge, self.config.calls, limiter, line=line)


@asynccontextmanager
async def open_reward_side(loaded: LoadedRewards, *, run: Path | None = None) -> AsyncIterator[RewardSide]:
    """Everything that the recipe names, until the context ends.

    Args:
        run: whose cache of verdicts is used where the recipe names none.

    Raises:
        UserError: something that the recipe names cannot be used; the message begins with its file.
    """
    recipe, rewards = loaded.recipe, loaded.recipe.rewards
    async with AsyncExitStack() as stack:
        with _named(loaded.path):
            gates = build_gates(rewards.gates)
            if _needs_ray(rewards):
                stack.enter_context(ray_session(recipe))
            # Whoever only scores by a function or a judge in this process need not wait for torch to look for GPUs.
            device = resolve_device(recipe) if _has_engine(rewards) else "cpu"
            cache = await stack.enter_async_context(open_cache(cache_path(rewards, run)))
            judge = await stack.enter_async_context(
                open_rewards(rewards, device=device, seed=recipe.seed, base_dir=loaded.base_dir, cache=cache)
            )
            desk = await make_desk(rewards, judge, cache=cache, base_dir=loaded.base_dir)
        yield RewardSide(rewards, recipe.seed, judge, gates, desk, Ledger(), loaded.path)


def needed_fields(rewards: RewardsConfig) -> list[str]:
    """Names of the prompt's fields that gates and judge read."""
    named: list[str | None] = [name for gate in rewards.gates for _, name in gate_fields(gate)]
    for judge in () if isinstance(rewards, ScorerRewards) else single_judges(rewards.judge):
        named.append(reference_field(judge.by) if isinstance(judge, ProgramJudge) else None)
        named.append(getattr(judge, "reference_field", None))
    return sorted({name for name in named if name is not None})


@contextmanager
def call_counter(what: str) -> Iterator[CallHandler]:
    """A line on a terminal's stderr that counts judge calls; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed} judge calls"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda key, call: progress.advance(task)


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """What the recipe has wrong is said with its file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _has_engine(rewards: RewardsConfig) -> bool:
    return isinstance(rewards, TournamentRewards) and any(has_engine(judge) for judge in single_judges(rewards.judge))


def _needs_ray(rewards: RewardsConfig) -> bool:
    cluster = isinstance(rewards, TournamentRewards) and rewards.calls.limits.scope == "cluster"
    return cluster or _has_engine(rewards)
