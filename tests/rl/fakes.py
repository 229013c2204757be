"""Rollouts made by hand, and a run of fakes around `Trainer` that writes what happens into one list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.exceptions import RayActorError

from rewards.errors import RunStopped
from rewards.types import Candidate, GroupKey, GroupScore, GroupSink, Prior, Prompt
from rl.config import CheckpointConfig, EvaluationConfig, RLConfig, SyncConfig
from rl.events import Event, StepDone
from rl.objectives import Objective
from rl.trainer import Trainer
from rl.types import TrainGroup
from rollouts.types import FinishReason, Group, GroupRequest, Rollout, SamplingSpec, Turn, VersionSpan
from tests.rl.learner_data import make_objective

RL = RLConfig(num_steps=2, checkpoint=CheckpointConfig(every=1), sync=SyncConfig(verify_every=2))
EVALUATION = EvaluationConfig(num_prompts=2, bootstrap=100)


def make_rollout(
    key: GroupKey,
    index: int,
    num_tokens: int = 2,
    *,
    version: int = 0,
    loss_mask: Sequence[bool] | None = None,
    text: str = "an answer",
    finish_reason: FinishReason = "stop",
) -> Rollout:
    """Token t of rollout i is 10 i + t, its log-probability -(i + 1)."""
    return Rollout(
        key=key,
        index=index,
        seed=index,
        token_ids=np.arange(10 * index, 10 * index + num_tokens, dtype=np.int32),
        logprobs=np.full(num_tokens, -(index + 1), dtype=np.float32),
        loss_mask=np.ones(num_tokens, dtype=bool) if loss_mask is None else np.asarray(loss_mask),
        text=text,
        finish_reason=finish_reason,
        versions=(VersionSpan(version, 0, num_tokens),),
        turns=(Turn("assistant", 0, num_tokens),),
    )


def make_group(name: str, lengths: Sequence[int | None], *, version: int = 0, prompt_id: str | None = None) -> Group:
    """A rollout of so many tokens per entry; None = given up."""
    key = GroupKey(name)
    return Group(
        key=key,
        prompt=Prompt(prompt_id or f"prompt of {name}", f"text of {prompt_id or name}"),
        prompt_token_ids=np.array([7, 8, 9], dtype=np.int32),
        rollouts=tuple(
            None if length is None else make_rollout(key, index, length, version=version)
            for index, length in enumerate(lengths)
        ),
    )


@dataclass
class FakeEngines:
    """Samples two tokens per rollout with the version that was synced last; slots in `lost` come back as None."""

    log: list[str]
    version: int = 0
    lost: set[tuple[str, int]] = field(default_factory=set)
    dead: int = 0

    async def heal(self, *, everyone: bool = False) -> int:
        if self.dead:
            self.log.append("replace all" if everyone else "replace the dead")
        healed, self.dead = self.dead, 0
        return healed

    async def sample(self, requests: Sequence[GroupRequest], sink: GroupSink | None = None) -> list[Group]:
        self.log.append(f"sample {requests[0].key.group_id.partition('-')[0]}")
        groups = []
        for request in requests:
            name = request.key.group_id
            lengths = [None if (name, index) in self.lost else 2 for index in range(len(request.seeds))]
            group = make_group(name, lengths, version=self.version, prompt_id=request.prompt.id)
            groups.append(group)
            if sink is None:
                continue
            await sink.open(request.key, request.prompt, len(lengths))
            for rollout in group.rollouts:
                if rollout is not None:
                    await sink.add(request.key, rollout.index, Candidate(str(rollout.index), rollout.text))
            await sink.close(request.key)
        return groups

    async def sleep(self) -> None:
        self._must_live()
        self.log.append("sleep")

    async def wake(self, tags: list[str]) -> None:
        self._must_live()
        self.log.append(f"wake {','.join(tags)}")

    def _must_live(self) -> None:
        if self.dead:
            raise RayActorError


@dataclass
class FakeSink:
    """Scores the slots of a group by `rewards` and remembers in its prior how often it was asked."""

    log: list[str]
    name: str
    rewards: Sequence[float | None] = (0.0, 1.0)
    reliability: float | None = None
    per_criterion: Mapping[str, list[float | None]] = field(default_factory=dict)
    segment_rewards: Mapping[str, list[float | None]] = field(default_factory=dict)
    prior: Prior | None = None
    opened: list[GroupKey] = field(default_factory=list)
    unreliable: set[str] = field(default_factory=set)
    """Groups whose reliability is 0, and so the judge's word on them level."""
    refills_left: int = 99

    def refill(self, num_groups: int) -> bool:
        self.refills_left -= 1
        return self.refills_left >= 0

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
        self.opened.append(key)

    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None: ...
    async def close(self, key: GroupKey) -> None: ...

    async def scores(self) -> dict[GroupKey, GroupScore]:
        self.log.append(f"judge {self.name}")
        self.prior = {"batches": 1 + (self.prior or {}).get("batches", 0)}
        keys, self.opened = self.opened, []
        return {
            key: GroupScore(
                rewards=list(self.rewards),
                reliability=0.0 if key.group_id in self.unreliable else self.reliability,
                per_criterion=self.per_criterion,
                segment_rewards=self.segment_rewards,
                num_calls=3,
            )
            for key in keys
        }


@dataclass
class FakeLearner:
    log: list[str]
    engines: FakeEngines
    gap: float = 0.0
    probe_gap: float = 0.0
    syncs_reach_engines: bool = True
    syncs_that_break: dict[int, list[int]] = field(default_factory=dict)
    """Versions whose first syncs fail, and how many engines died of each."""
    learned: list[Sequence[TrainGroup]] = field(default_factory=list)
    verified: dict[int, bool] = field(default_factory=dict)
    saved: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    async def step(self, groups: Sequence[TrainGroup]) -> dict[str, float]:
        self.log.append("learn")
        self.learned.append(groups)
        if not any(rollout.advantages.any() for group in groups for rollout in group.rollouts):
            return {"rl/skipped": 1.0}
        return {"sync/logprob_gap": self.gap, "rl/loss": 0.5}

    async def logprobs(self, groups: Sequence[TrainGroup], *, reference: bool = False) -> list[np.ndarray]:
        """The policy's are the engine's and `probe_gap` more; the reference is less sure of later slots."""
        return [
            (rollout.rollout_logprobs + self.probe_gap - 0.1 * slot * reference).astype(np.float32)
            for group in groups
            for slot, rollout in zip(group.slots or range(len(group.rollouts)), group.rollouts, strict=True)
        ]

    async def sync(self, version: int, *, verify: bool) -> dict[str, float]:
        self.log.append(f"sync {version}")
        if self.syncs_that_break.get(version):
            self.engines.dead = self.syncs_that_break[version].pop(0)
            raise RunStopped("weight sync broke off")
        self.verified[version] = verify
        if self.syncs_reach_engines:
            self.engines.version = version
        return {"bytes": 8.0}

    async def save(self, path: Any, extra: Mapping[str, Any]) -> None:
        self.log.append(f"save checkpoint {path}")
        self.saved[path] = dict(extra)


@dataclass
class FakeStore:
    log: list[str]
    groups: dict[int, tuple[list[Group], list[GroupScore], Prior | None]] = field(default_factory=dict)
    start_answers: list[Group] | None = None
    matches: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)
    evaluations: dict[int, list[Mapping[str, Any]]] = field(default_factory=dict)
    summary: Mapping[str, Any] | None = None
    earlier: dict[int, float] = field(default_factory=dict)
    """Held-out win rates of steps before this run's."""
    events: FakeEvents = field(default_factory=lambda: FakeEvents())
    spared: list[int] = field(default_factory=list)

    def save_groups(
        self, step: int, groups: Sequence[Group], scores: Sequence[GroupScore], *, prior: Prior | None
    ) -> None:
        self.log.append(f"save groups {step}")
        self.groups[step] = list(groups), list(scores), prior

    def load_groups(self, step: int) -> tuple[list[Group], list[GroupScore]]:
        self.log.append(f"load groups {step}")
        return self.groups[step][:2]

    def load_prior(self, step: int) -> Prior | None:
        return self.groups[step][2]

    def has_groups(self, step: int) -> bool:
        return step in self.groups

    def reject_groups(self, step: int) -> str:
        self.log.append(f"reject groups {step}")
        del self.groups[step]
        return "elsewhere"

    def save_start_answers(self, groups: Sequence[Group]) -> None:
        self.log.append("save start answers")
        self.start_answers = list(groups)

    def load_start_answers(self) -> list[Group] | None:
        return self.start_answers

    def save_matches(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.matches[step] = list(rows)

    def save_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        self.log.append(f"save evaluation {step}")
        self.evaluations[step] = list(rows)

    def checkpoint_path(self, step: int) -> str:
        return str(step)

    def prune_checkpoints(self, keep: int, spared: Collection[int]) -> list[int]:
        self.log.append(f"keep {keep}")
        self.spared = list(spared)
        return []

    def judge_cache(self) -> str | None:
        return "judge_cache.sqlite"

    def checkpoints(self) -> list[int]:
        saved = [line.removeprefix("save checkpoint ") for line in self.log if line.startswith("save checkpoint ")]
        return sorted({*self.earlier, *map(int, saved)})

    def metrics(self) -> list[dict[str, Any]]:
        earlier = [{"step": step, "heldout/win_rate": win_rate} for step, win_rate in self.earlier.items()]
        return earlier + self.events.rows()

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        self.log.append("save summary")
        self.summary = summary


@dataclass
class FakeEvents:
    seen: list[Event] = field(default_factory=list)

    def handle(self, event: Event) -> None:
        self.seen.append(event)

    def rows(self) -> list[dict[str, Any]]:
        return [{"step": event.step, **event.metrics} for event in self.seen if isinstance(event, StepDone)]

    def close(self) -> None: ...


class FakeRun:
    """Two prompts a step, groups of two, two held-out prompts; `log` is what happened, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.engines = FakeEngines(self.log)
        self.sink = FakeSink(self.log, "training")
        self.heldout_sink = FakeSink(self.log, "heldout")
        self.audit_sink = FakeSink(self.log, "audit")
        self.learner = FakeLearner(self.log, self.engines)
        self.events = FakeEvents()
        self.store = FakeStore(self.log, events=self.events)

    def trainer(
        self,
        *,
        rl: RLConfig = RL,
        evaluation: EvaluationConfig = EVALUATION,
        objective: Objective | None = None,
        **keys: Any,
    ) -> Trainer:
        return Trainer(
            rl=rl,
            evaluation=evaluation,
            objective=objective or make_objective(),
            seed=0,
            engines=self.engines,
            sink=self.sink,
            heldout_sink=self.heldout_sink,
            learner=self.learner,
            store=self.store,
            events=self.events,
            train_requests=lambda step: [self._request(f"step{step}-{slot}", f"t{slot}", 2) for slot in range(2)],
            refill_requests=lambda step, refill, num: [
                self._request(f"step{step}-refill{refill}-{slot}", f"r{slot}", 2) for slot in range(num)
            ],
            heldout_requests=lambda step: [self._request(f"heldout{step}-{slot}", f"h{slot}", 1) for slot in range(2)],
            describe=lambda groups, scores: {"judge/num_calls": float(sum(score.num_calls for score in scores))},
            match_rows=lambda groups, scores: [{"group": str(group.key)} for group in groups],
            **keys,
        )

    @asynccontextmanager
    async def audit(self) -> AsyncIterator[GroupSink]:
        self.log.append("open audit")
        try:
            yield self.audit_sink
        finally:
            self.log.append("close audit")

    @staticmethod
    def _request(name: str, prompt_id: str, num_rollouts: int) -> GroupRequest:
        return GroupRequest(
            key=GroupKey(name),
            prompt=Prompt(prompt_id, "text"),
            prompt_token_ids=np.array([7, 8, 9], dtype=np.int32),
            seeds=tuple(range(num_rollouts)),
            sampling=SamplingSpec(max_tokens=4, temperature=1.0),
        )
