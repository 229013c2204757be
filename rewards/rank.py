"""Ranking with a plain function: the doorway for library users. Needs no Ray, no torch, no recipe.

scores = rank_group(8, lambda i, j: judge(answers[i], answers[j]))      # P(i beats j), or None
scores.rewards                                                          # posterior win probabilities
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

from pydantic import ValidationError

from rewards.aggregator_config import AggregatorConfig
from rewards.aggregator_options import check_name
from rewards.arena import Arena
from rewards.config import CallLimits, TournamentRewards
from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import PythonJudge
from rewards.strict import StrictModel, config_kinds
from rewards.topology_config import TopologyConfig, prior_key
from rewards.types import Candidate, GroupKey, GroupScore, Orders, Prior, Prompt, Verdict, VerdictKind

CompareValue = float | None
Compare = Callable[[int, int], CompareValue | Awaitable[CompareValue]]
CompareInGroup = Callable[[int, int, int], CompareValue | Awaitable[CompareValue]]

_TOPOLOGIES: dict[str, type[StrictModel]] = config_kinds(TopologyConfig)
_AGGREGATORS: dict[str, type[StrictModel]] = config_kinds(AggregatorConfig)


def rank_group(
    num_candidates: int,
    compare: Compare,
    *,
    topology: str = "round_robin",
    aggregator: str = "empirical_bayes",
    orders: Orders = "both",
    verdict: VerdictKind = "probability",
    seed: int = 0,
    **options: Any,
) -> GroupScore:
    """Ranks one group of candidates by a tournament.

    Args:
        num_candidates: at least 2.
        compare: `compare(i, j)`, i shown first: P(i beats j) in [0, 1], or None when there is no verdict; sync or
            async. Raise `JudgeFailure` to be asked again. A sync function is called on one thread, one pair at a time.
        topology: a kind of `rewards/topology_config.py`: "round_robin", "swiss", "adaptive", ...; for "k_wise", whose
            calls rank several candidates, there is `rank_group_k`.
        aggregator: a kind of `rewards/aggregator_config.py`: "empirical_bayes", "win_rate", ...
        orders: "both" asks (i, j) and (j, i); "random" one of them by lot; "first" the lower index first;
            "both_if_close" the second one only where the first verdict is near a tie (within `close_margin`).
        verdict: what the number means: "probability"; "hard" (1, 0.5 or 0); "score" (in any unit, up to 1e100,
            > 0 if i is better, never read as a probability).
        seed: of brackets and lots.
        options: fields of the topology (`seeding`), of the aggregator (`scales`, `prior_decay`) and of the calls
            (`max_concurrency`, `timeout_s`, `max_attempts`, `backoff_s`, `down_after_s`); `min_verdicts`;
            `merge="agree_else_tie"`; `symmetric=True` for a function that cannot depend on the order (asked once per
            match); `calls_per_group` and `calls_per_step` (of all groups together), budgets of calls; `prior`, an
            aggregator's earlier one.

    Raises:
        UserError: a bad argument, or a value from `compare` that its verdict kind does not allow.
    """

    def compare_in_group(_: int, i: int, j: int) -> CompareValue | Awaitable[CompareValue]:
        return compare(i, j)

    (score,) = rank_groups(
        [num_candidates],
        compare_in_group,
        topology=topology,
        aggregator=aggregator,
        orders=orders,
        verdict=verdict,
        seed=seed,
        **options,
    )
    return score


def rank_groups(
    sizes: Sequence[int],
    compare: CompareInGroup,
    *,
    topology: str = "round_robin",
    aggregator: str = "empirical_bayes",
    orders: Orders = "both",
    verdict: VerdictKind = "probability",
    seed: int = 0,
    **options: Any,
) -> list[GroupScore]:
    """Ranks a batch of groups together, so that the aggregator learns its prior from all of them.

    `compare(g, i, j)` is asked about candidates i and j of group g; everything else as in `rank_group`.
    """
    for size in sizes:
        if not isinstance(size, int) or size < 2:
            raise UserError(f"num_candidates: a group has at least 2 candidates, got {size!r}")
    prior: Prior | None = options.pop("prior", None)
    if topology == "k_wise":
        raise UserError("topology k_wise ranks several candidates in one call; use rank_group_k(num_candidates, rank)")
    config, judge = make_config(topology, aggregator, orders, verdict, options)
    arena = Arena(config, _FunctionJudge(compare, judge), seed=seed, prior=prior, groups_per_step=max(1, len(sizes)))
    return run(rank_in_arena(sizes, arena))


async def rank_in_arena(sizes: Sequence[int], arena: Arena) -> list[GroupScore]:
    """Groups whose candidates are their slots, played as one batch."""
    keys = [GroupKey(str(group)) for group in range(len(sizes))]
    try:
        for key, size in zip(keys, sizes, strict=True):
            await arena.open(key, Prompt(id=key.group_id, text=""), size)
            for index in range(size):
                await arena.add(key, index, Candidate(id=str(index), text=""))
        scores = await arena.scores()
    finally:
        await arena.stop()
    return [scores[key] for key in keys]


class _FunctionJudge:
    """A judge around a user's `compare(g, i, j)`."""

    name = "compare"

    def __init__(self, compare: CompareInGroup, config: PythonJudge) -> None:
        self._compare = compare
        self.kind: VerdictKind = config.verdict
        self.symmetric = config.symmetric

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        value = self._compare(int(prompt.id), int(first.id), int(second.id))
        if inspect.isawaitable(value):
            value = await value
        if value is None:
            raise JudgeFailure("empty", "compare returned None", retryable=False)
        try:
            return Verdict(float(value))
        except (TypeError, ValueError):
            raise UserError(f"compare({first.id}, {second.id}) must return a number or None, got {value!r}") from None

    async def close(self) -> None:
        pass


def make_config(
    topology: str, aggregator: str, orders: str, verdict: str, options: dict[str, Any]
) -> tuple[TournamentRewards, PythonJudge]:
    """Sorts the options into the sections of a recipe and lets the recipe's own rules judge them."""
    check_name("topology", topology, _TOPOLOGIES)
    check_name("aggregator", aggregator, _AGGREGATORS)
    check_name("orders", orders, get_args(Orders))
    check_name("verdict", verdict, get_args(VerdictKind))
    sections: dict[str, dict[str, Any]] = {
        "topology": {},
        "aggregator": {},
        "calls": {},
        "judge": {},
        "budget": {},
        "": {},
    }
    owners = dict.fromkeys(("calls_per_group", "calls_per_step"), "budget")
    owners |= dict.fromkeys(_TOPOLOGIES[topology].model_fields, "topology")
    owners |= dict.fromkeys(_AGGREGATORS[aggregator].model_fields, "aggregator")
    owners |= dict.fromkeys(CallLimits.model_fields, "calls") | {"symmetric": "judge"}
    owners |= dict.fromkeys(("min_verdicts", "close_margin", "merge"), "")
    del owners["kind"]
    for name, value in options.items():
        check_name(f"option of rank_group with {topology} and {aggregator}", name, owners)
        sections[owners[name]][name] = tuple(value) if isinstance(value, list) else value
    try:
        judge = PythonJudge.model_validate(
            {"kind": "python", "target": "rewards.rank:rank_group", "verdict": verdict, **sections["judge"]}
        )
        config = TournamentRewards.model_validate(
            {
                "judge": judge,
                "topology": {"kind": topology, **sections["topology"]},
                "aggregator": {"kind": aggregator, **sections["aggregator"]},
                "orders": orders,
                # Who ranks by a function wants it to end: what failed for good is missing, unless they say otherwise.
                "calls": {"down_after_s": None, **sections["calls"]},
                "budget": sections["budget"],
                **sections[""],
            }
        )
    except ValidationError as error:
        fault = error.errors()[0]
        path = [str(part) for part in fault["loc"] if part not in (*sections, topology, aggregator)]
        raise UserError(f"{'.'.join(path)}: {fault['msg']}, got {fault['input']!r}") from None
    if (key := prior_key(config.topology)) is not None:
        raise UserError(
            f"{key}: {getattr(config.topology, key)!r} goes by prior scores, which rank_group has not; choose another"
        )
    return config, judge


def run(work: Coroutine[Any, Any, list[GroupScore]]) -> list[GroupScore]:
    """Runs to the end, also where an event loop is already running in this thread, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, work).result()
