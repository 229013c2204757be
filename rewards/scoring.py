"""A GroupSink for rewards of kind `scorer`: every rollout is scored by itself, as a whole or per segment; no matches.

sampler --open/add/close--> ScorerSink --one task per rollout--> score_fn
                                |
trainer <-------scores()--------+   waits until every group is complete and every rollout scored, forgets them
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rewards.scored import Score, collect, read_score
from rewards.types import Candidate, Gate, GroupKey, GroupScore, Prior, Prompt, Scored

ScoreFn = Callable[[Prompt, Candidate], Score | Awaitable[Score]]


@dataclass(slots=True, eq=False)
class _Group:
    prompt: Prompt
    num_candidates: int
    tasks: dict[int, asyncio.Task[Scored | None]] = field(default_factory=dict)
    gate_failures: dict[str, list[int]] = field(default_factory=dict)
    vetoed: dict[int, Candidate] = field(default_factory=dict)
    closed: bool = False
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class ScorerSink:
    """Scores rollouts one by one as they arrive; implements `rewards.types.GroupSink`.

    A rollout that fails a gate is not scored by the function; it gets min(0, the group's lowest score): never more than
    a rollout that passed, and 0 where the metric is not negative. Each of its segments likewise.

    Args:
        score_fn: sync or async.
        name: how messages call the function, as a recipe does (`package.module:name`).
    """

    def __init__(self, score_fn: ScoreFn, gates: Sequence[Gate] = (), *, name: str | None = None) -> None:
        self.prior: Prior | None = None
        """Nothing is remembered; there for the trainer, which keeps every sink's memory in its checkpoints."""
        self._score_fn = score_fn
        self._gates = tuple(gates)
        self._name = name or getattr(score_fn, "__qualname__", type(score_fn).__name__)
        self._groups: dict[GroupKey, _Group] = {}

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
        if key in self._groups:
            raise ValueError(f"group {key} is already open")
        self._groups[key] = _Group(prompt, num_candidates)

    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None:
        """A rollout has finished. ValueError refuses an unknown or closed group and a slot that came before."""
        group = self._group(key)
        if not 0 <= index < group.num_candidates:
            raise ValueError(f"group {key}: slot {index} of a group of {group.num_candidates}")
        if group.closed:
            raise ValueError(f"group {key}: slot {index} arrived after the group was closed")
        if index in group.tasks or index in group.vetoed:
            raise ValueError(f"group {key}: slot {index} arrived twice")
        failed = [gate.name for gate in self._gates if gate.check(group.prompt, candidate) is not None]
        for name in failed:
            group.gate_failures.setdefault(name, []).append(index)
        if failed:
            group.vetoed[index] = candidate
        else:
            group.tasks[index] = asyncio.create_task(self._score(group.prompt, candidate))
        if len(group.tasks) + len(group.vetoed) == group.num_candidates:
            group.complete.set()

    async def close(self, key: GroupKey) -> None:
        group = self._group(key)
        group.closed = True
        group.complete.set()

    async def scores(self) -> dict[GroupKey, GroupScore]:
        """Waits for the groups that are open now and forgets them.

        Raises:
            UserError: the function gave something that is not a finite number or None.
            Exception: whatever the function raised.
        """
        keys = sorted(self._groups)
        scores: dict[GroupKey, GroupScore] = {}
        try:
            for key in keys:
                group = self._groups[key]
                await group.complete.wait()
                scores[key] = _group_score(group, {index: await task for index, task in sorted(group.tasks.items())})
        except BaseException:
            await self.stop()
            raise
        for key in keys:
            del self._groups[key]
        return scores

    def unfinished(self) -> list[str]:
        """Rollouts that have no score yet, for whoever watches the clock."""
        return [
            f"score of {key}/{index}"
            for key in sorted(self._groups)
            for index, task in sorted(self._groups[key].tasks.items())
            if not task.done()
        ]

    async def stop(self) -> None:
        """Cancels what is being scored and forgets all groups; no task of ours is left."""
        tasks = [task for group in self._groups.values() for task in group.tasks.values()]
        self._groups.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _score(self, prompt: Prompt, candidate: Candidate) -> Scored | None:
        value = self._score_fn(prompt, candidate)
        if inspect.isawaitable(value):
            value = await value
        return read_score(value, self._name)

    def _group(self, key: GroupKey) -> _Group:
        if key not in self._groups:
            raise ValueError(f"group {key} is not open")
        return self._groups[key]


def _group_score(group: _Group, scores: Mapping[int, Scored | None]) -> GroupScore:
    columns = collect(scores, group.vetoed, group.num_candidates)
    return GroupScore(
        rewards=columns.rewards,
        segment_rewards=columns.segment_rewards,
        figures=columns.figures,
        baseline_ids=[0] * group.num_candidates,
        gate_failures={name: tuple(failed) for name, failed in group.gate_failures.items()},
    )
