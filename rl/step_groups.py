"""A step's groups: sampled, judged and put on disk, or taken from there after a run was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.types import GroupScore, Prior
from rl.alarms import check_versions
from rl.events import EventSink, Note, Phase
from rl.seams import Engines, Store, TrainingSink
from rollouts.types import Group, GroupRequest


@dataclass(frozen=True, slots=True, eq=False)
class StepGroups:
    """What a step learns from, and the seconds that it took to sample and, after the last rollout, to judge."""

    groups: list[Group]
    scores: list[GroupScore]
    sample_s: float = 0.0
    judge_s: float = 0.0


@dataclass
class GroupSource:
    """Groups of one step after the other. `prior` is the aggregator's memory after the last groups that are on disk."""

    engines: Engines
    sink: TrainingSink
    store: Store
    events: EventSink
    requests: Callable[[int], list[GroupRequest]]
    match_rows: Callable[[Sequence[Group], Sequence[GroupScore]], list[dict[str, Any]]]
    prior: Prior | None = field(default=None, init=False)

    def restore(self, prior: Prior | None) -> None:
        self.prior = self.sink.prior = prior

    async def get(self, step: int, enter: Callable[[Phase, int], None]) -> StepGroups:
        """The groups of a step, on disk by the time they are returned; `enter` is told of each phase.

        Raises:
            RunStopped: engines, judge or disk gave up, or engines sampled with other weights than the step's.
        """
        if self.store.has_groups(step):
            self.events.handle(Note("info", f"step {step}: learning from the groups on disk"))
            groups, scores = self.store.load_groups(step)
            self.restore(self.store.load_prior(step))
            return StepGroups(groups, scores)
        started = time.monotonic()
        enter("sample", step)
        groups = await self.engines.sample(self.requests(step), self.sink)
        check_versions(groups, expected=step - 1)
        sampled = time.monotonic()
        enter("judge", step)
        by_key = await self.sink.scores()
        scores = [by_key[group.key] for group in groups]
        judged = time.monotonic()
        enter("save", step)
        self.store.save_matches(step, self.match_rows(groups, scores))
        self.store.save_groups(step, groups, scores, prior=self.sink.prior)
        self.prior = self.sink.prior
        return StepGroups(groups, scores, sample_s=sampled - started, judge_s=judged - sampled)
