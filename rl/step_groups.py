"""A step's groups: sampled, judged, refilled and put on disk, or taken from there after a run was killed.

requests(step) --sample--> groups --judge--> scores --teaching?--> all places filled: on disk, then learned from
                  ^                                     |
                  +---- refill_requests(step, 1, 2, ..) +          without rl.dynamic_sampling every group counts
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.types import GroupScore, Prior
from rl.alarms import check_versions
from rl.config import RLConfig
from rl.dynamic_sampling import teaching
from rl.events import EventSink, Note, Phase
from rl.objectives import Objective
from rl.seams import Engines, Store, TrainingSink
from rollouts.types import Group, GroupRequest


@dataclass(frozen=True, slots=True, eq=False)
class StepGroups:
    """All groups that a step sampled, refills last, and the seconds that they took.

    kept: which are learned from. num_wanted: groups of a full step. judge_s: after the last rollout had come.
    """

    groups: list[Group]
    scores: list[GroupScore]
    kept: list[bool]
    num_wanted: int
    sample_s: float = 0.0
    judge_s: float = 0.0

    def learned(self) -> tuple[list[Group], list[GroupScore]]:
        return (
            [group for group, kept in zip(self.groups, self.kept, strict=True) if kept],
            [score for score, kept in zip(self.scores, self.kept, strict=True) if kept],
        )

    def mean_staleness(self, step: int) -> float:
        """Policy versions between the one that is updated in `step` and the one that sampled, mean over tokens."""
        spans = [
            span
            for group in self.groups
            for rollout in group.rollouts
            if rollout is not None
            for span in rollout.versions
        ]
        num_tokens = sum(span.end - span.start for span in spans)
        return sum((step - 1 - span.version) * (span.end - span.start) for span in spans) / max(1, num_tokens)

    @property
    def num_tokens(self) -> int:
        """Answer tokens that were sampled."""
        rollouts = (rollout for group in self.groups for rollout in group.rollouts)
        return sum(rollout.num_tokens for rollout in rollouts if rollout is not None)


@dataclass
class GroupSource:
    """Groups of one step after the other. `prior` is the aggregator's memory after the last groups that are on disk.

    Which prompts and seeds a refill uses follows from the run's seed, the step and the refill's number, and how many
    from the scores. All groups of a step go to disk together, so what is kept of them is the same after a kill.
    """

    rl: RLConfig
    objective: Objective
    engines: Engines
    sink: TrainingSink
    store: Store
    events: EventSink
    requests: Callable[[int], list[GroupRequest]]
    refill_requests: Callable[[int, int, int], list[GroupRequest]]
    match_rows: Callable[[Sequence[Group], Sequence[GroupScore]], list[dict[str, Any]]]
    prior: Prior | None = field(default=None, init=False)

    def restore(self, prior: Prior | None) -> None:
        self.prior = self.sink.prior = prior

    async def get(self, step: int, enter: Callable[[Phase, int], None]) -> StepGroups:
        """The groups of a step, on disk by the time they are returned; `enter` is told of each phase.

        Raises:
            RunStopped: engines, judge or disk gave up, or engines sampled with other weights than the step's.
        """
        requests = self.requests(step)
        num_wanted = len(requests)
        if self.store.has_groups(step):
            self.events.handle(Note("info", f"step {step}: learning from the groups on disk"))
            groups, scores = self.store.load_groups(step)
            self.restore(self.store.load_prior(step))
            return StepGroups(groups, scores, self._kept(scores), num_wanted)
        groups, scores, sample_s, judge_s = [], [], 0.0, 0.0
        num_refills = 0
        while True:
            started = time.monotonic()
            enter("sample", step)
            more = await self.engines.sample(requests, self.sink)
            check_versions(more, expected=step - 1, staleness=self.rl.staleness)
            sampled = time.monotonic()
            enter("judge", step)
            by_key = await self.sink.scores()
            groups, scores = groups + more, scores + [by_key[group.key] for group in more]
            sample_s, judge_s = sample_s + sampled - started, judge_s + time.monotonic() - sampled
            kept = self._kept(scores)
            if not self._wants_refill(num_refills, num_wanted - sum(kept)):
                break
            num_refills += 1
            requests = self.refill_requests(step, num_refills, num_wanted - sum(kept))
        enter("save", step)
        self.store.save_matches(step, self.match_rows(groups, scores))
        self.store.save_groups(step, groups, scores, prior=self.sink.prior)
        self.prior = self.sink.prior
        return StepGroups(groups, scores, kept, num_wanted, sample_s, judge_s)

    def _kept(self, scores: Sequence[GroupScore]) -> list[bool]:
        if self.rl.dynamic_sampling is None:
            return [True] * len(scores)
        criteria = self.objective.criteria
        return teaching(
            scores,
            self.rl.dynamic_sampling,
            min_group=self.rl.min_group,
            criteria=criteria.weights if criteria is not None else (),
            uses_segments=self.objective.uses_segments,
        )

    def _wants_refill(self, num_refills: int, num_missing: int) -> bool:
        config = self.rl.dynamic_sampling
        return (
            config is not None and num_missing > 0 and num_refills < config.max_rounds and self.sink.refill(num_missing)
        )
