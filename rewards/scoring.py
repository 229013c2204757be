"""A GroupSink for rewards of kind `scorer`: every rollout is scored by itself, as a whole or per segment; no matches.

sampler --open/add/close--> ScorerSink --one task per rollout--> gates, then score_fn
                                |
trainer <-------scores()--------+   waits until every group is complete and every rollout scored, forgets them
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rewards.gate_rewards import soft_factor
from rewards.gates.examine import Examination, examine
from rewards.scored import Score, collect, read_score
from rewards.types import AnyGate, Candidate, GroupKey, GroupScore, Prior, Prompt, Scored, SoftGate

ScoreFn = Callable[[Prompt, Candidate], Score | Awaitable[Score]]


@dataclass(slots=True, eq=False)
class _Group:
    prompt: Prompt
    num_candidates: int
    candidates: dict[int, Candidate] = field(default_factory=dict)
    tasks: dict[int, asyncio.Task[tuple[Examination, Scored | None]]] = field(default_factory=dict)
    closed: bool = False
    complete: asyncio.Event = field(default_factory=asyncio.Event)


class ScorerSink:
    """Scores rollouts one by one as they arrive; implements `rewards.types.GroupSink`.

    A rollout that fails a hard gate is not scored by the function; it gets min(0, the group's lowest score): never more
    than a rollout that passed, and 0 where the metric is not negative. Each of its segments likewise. Soft gates take
    from the function's scores (`rewards/gate_rewards.py`).

    Args:
        score_fn: sync or async.
        name: how messages call the function, as a recipe does (`package.module:name`).
    """

    def __init__(self, score_fn: ScoreFn, gates: Sequence[AnyGate] = (), *, name: str | None = None) -> None:
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
        if index in group.tasks:
            raise ValueError(f"group {key}: slot {index} arrived twice")
        group.candidates[index] = candidate
        group.tasks[index] = asyncio.create_task(self._gate_and_score(group.prompt, candidate))
        if len(group.tasks) == group.num_candidates:
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
                scored = {index: await task for index, task in sorted(group.tasks.items())}
                scores[key] = _group_score(group, scored, self._gates)
        except BaseException:
            await self.stop()
            raise
        for key in keys:
            del self._groups[key]
        return scores

    def refill(self, num_groups: int) -> bool:
        """Further groups may be opened: scores cost no judge calls."""
        return True

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

    async def _gate_and_score(self, prompt: Prompt, candidate: Candidate) -> tuple[Examination, Scored | None]:
        found = examine(self._gates, prompt, candidate)
        if not isinstance(found, Examination):
            found = await found
        return found, None if found.failed else await self._score(prompt, candidate)

    async def _score(self, prompt: Prompt, candidate: Candidate) -> Scored | None:
        value = self._score_fn(prompt, candidate)
        if inspect.isawaitable(value):
            value = await value
        return read_score(value, self._name)

    def _group(self, key: GroupKey) -> _Group:
        if key not in self._groups:
            raise ValueError(f"group {key} is not open")
        return self._groups[key]


def _group_score(
    group: _Group, scored: Mapping[int, tuple[Examination, Scored | None]], gates: Sequence[AnyGate]
) -> GroupScore:
    weights = {gate.name: gate.weight for gate in gates if isinstance(gate, SoftGate)}
    found = {index: examination for index, (examination, _) in scored.items()}
    failures: dict[str, list[int]] = {}
    for index, examination in found.items():
        for name in examination.failed:
            failures.setdefault(name, []).append(index)
    vetoed = {index: group.candidates[index] for index, examination in found.items() if examination.failed}
    columns = collect(
        {index: score for index, (_, score) in scored.items() if index not in vetoed},
        vetoed,
        {index: soft_factor(found[index].scores, weights) for index in found if index not in vetoed},
        group.num_candidates,
    )
    return GroupScore(
        rewards=columns.rewards,
        segment_rewards=columns.segment_rewards,
        figures=columns.figures,
        per_criterion=columns.per_criterion,
        baseline_ids=[0] * group.num_candidates,
        gate_failures={name: tuple(slots) for name, slots in failures.items()},
        gate_scores={
            name: [found[index].scores.get(name) if index in found else None for index in range(group.num_candidates)]
            for name in weights
        },
    )
