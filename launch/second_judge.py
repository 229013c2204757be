"""The second judge of a recipe, `evaluation.audit_judge`: over a share of training's pairs, and the last evaluation's.

evaluation.audit_share > 0: open_second at the start of the run -> AuditedSink over the arena, step by step
at the end of the run:      open_audit -> a sink of its own over the last evaluation's answers (`rl/evaluator.py`)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from launch.desk import make_desk
from launch.devices import Device
from launch.judging import audit_rewards, make_sink, open_judge
from launch.ledger_file import LedgerFile
from recipes.bounds import audit_budget
from recipes.schema import Recipe
from rewards.arena import Arena, local_limiter
from rewards.audit import AuditedSink
from rewards.budget import Spend
from rewards.cache import JudgeCache
from rewards.config import TournamentRewards
from rewards.types import CallHandler, GroupSink, Judge
from rl.evaluator import OpenAudit

PURPOSE = "training_audit"
"""Of the calls about training's pairs, in the ledger; those about the last evaluation are `audit`."""


@asynccontextmanager
async def open_second(
    recipe: Recipe, base_dir: Path, device: Device, cache: JudgeCache | None
) -> AsyncIterator[Judge | None]:
    """The second judge, where it is needed from the first step on; else None."""
    config = recipe.evaluation.audit_judge
    if config is None or not recipe.evaluation.audit_share:
        yield None
        return
    async with open_judge(config, device=device, seed=recipe.seed, base_dir=base_dir, cache=cache) as judge:
        yield judge


async def audited(
    arena: Arena,
    judge: Judge,
    recipe: Recipe,
    base_dir: Path,
    *,
    cache: JudgeCache | None,
    books: LedgerFile,
    spent: Spend,
    on_call: CallHandler | None = None,
    say: Callable[[str], None],
) -> AuditedSink:
    """The training arena with the second judge looking over its share; `spent` of its budget went out before.

    Raises:
        UserError: other runs on the cluster share the limiter's name with other limits.
    """
    rewards, config = recipe.rewards, recipe.evaluation.audit_judge
    assert isinstance(rewards, TournamentRewards)  # recipes/checks.py
    assert config is not None
    # Waited for no longer than one call may take: nothing in the run depends on it.
    patience_s = min(rewards.calls.timeout_s, rewards.calls.down_after_s or rewards.calls.timeout_s)
    calls = rewards.calls.model_copy(update={"down_after_s": patience_s})
    desk = await make_desk(
        rewards.model_copy(update={"judge": config, "calls": calls}), judge, cache=cache, base_dir=base_dir
    )
    return AuditedSink(
        arena,
        judge,
        recipe.evaluation.audit_share,
        calls,
        limiter=desk.limiter or local_limiter(calls),
        budget=audit_budget(recipe)[1],
        spent=spent,
        seed=recipe.seed,
        lines=desk.lines,
        on_call=books.recorder(PURPOSE, on_call),
        say=say,
    )


def open_audit(
    recipe: Recipe,
    base_dir: Path,
    device: Device,
    cache: JudgeCache | None,
    books: LedgerFile,
    second: Judge | None,
) -> OpenAudit | None:
    """Opens the second judge's sink over the last evaluation, or None if the recipe names none.

    Args:
        second: the judge where it is open already.
    """
    config, rewards = recipe.evaluation.audit_judge, audit_rewards(recipe.rewards)
    if config is None or rewards is None:
        return None
    alone = rewards.model_copy(update={"judge": config})

    @asynccontextmanager
    async def opened() -> AsyncIterator[GroupSink]:
        async with AsyncExitStack() as stack:
            judge = second or await stack.enter_async_context(
                open_judge(config, device=device, seed=recipe.seed, base_dir=base_dir, cache=cache)
            )
            desk = await make_desk(alone, judge, cache=cache, base_dir=base_dir)
            on_call = books.recorder("audit")
            yield make_sink(alone, judge, seed=recipe.seed, carry_prior=False, on_call=on_call, desk=desk)

    return opened
