"""The loop: sample, judge, learn, sync, evaluate, save.

    for each step:   prompts --sample--> groups --judge--> scores --learn--> weights --sync--> engines at version = step
                                 \\__ rollouts reach the judge as they finish __/
                     then evaluate and save where the recipe says so

One asyncio task drives everything; engines, judges and learner ranks work behind the protocols below. A step's groups
are on disk before they are learned from, so a run that was killed learns from the same groups again.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rewards.errors import RunStopped
from rewards.types import GroupKey, GroupScore, GroupSink, Prior
from rl.config import EvaluationConfig, RLConfig
from rl.evaluation import judge_agreement
from rl.events import EventSink, Note, Phase, PhaseStarted, RunDone, StepDone
from rl.heldout import Games, Pair, judge_pairs, judged_alone, pair_answers, tally
from rl.objectives import Objective
from rl.train_batch import TrainBatch, build_train_batch
from rl.types import TrainGroup
from rollouts.types import Group, GroupRequest

Judged = tuple[list[Group], list[GroupScore]]
"""A step's groups and what the reward side says of each."""


class Engines(Protocol):
    """What the loop needs from the pool of engines."""

    async def sample(self, requests: Sequence[GroupRequest], sink: GroupSink | None = None) -> list[Group]: ...
    async def heal(self, *, everyone: bool = False) -> int: ...
    async def sleep(self) -> None: ...
    async def wake(self, tags: list[str]) -> None: ...


class Learner(Protocol):
    """What the loop needs from the learner's ranks. `sync` brings every engine to the learner's weights."""

    async def step(self, groups: Sequence[TrainGroup]) -> dict[str, float]: ...
    async def sync(self, version: int, *, verify: bool) -> dict[str, float]: ...
    async def save(self, path: Any, extra: Mapping[str, Any]) -> None: ...


class TrainingSink(GroupSink, Protocol):
    """A sink whose aggregator remembers: `prior` goes into checkpoints."""

    prior: Prior | None


class Store(Protocol):
    """The run directory, as far as the loop writes and reads it."""

    def save_groups(
        self, step: int, groups: Sequence[Group], scores: Sequence[GroupScore], *, prior: Prior | None
    ) -> None: ...
    def load_groups(self, step: int) -> tuple[list[Group], list[GroupScore]]: ...
    def load_prior(self, step: int) -> Prior | None: ...
    def has_groups(self, step: int) -> bool: ...
    def save_start_answers(self, groups: Sequence[Group]) -> None: ...
    def load_start_answers(self) -> list[Group] | None: ...
    def save_matches(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def save_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def checkpoint_path(self, step: int) -> Any: ...
    def prune_checkpoints(self, keep: int, spared: Collection[int]) -> list[int]: ...
    def checkpoints(self) -> list[int]: ...
    def metrics(self) -> list[dict[str, Any]]: ...
    def judge_cache(self) -> str | None: ...
    def save_summary(self, summary: Mapping[str, Any]) -> None: ...


@dataclass
class Trainer:
    """A run from `first_step` to the recipe's last step.

    train_requests(step) gives a training step's requests, heldout_requests(step) those of an evaluation (0 = the
    starting model's answers). describe turns groups and scores into judge-health metrics, match_rows into the rows of
    the match log. audit opens the second judge's sink; None if the recipe has none. start_s: seconds that it took to
    start engines and ranks, for the summary.
    """

    rl: RLConfig
    evaluation: EvaluationConfig
    objective: Objective
    seed: int
    engines: Engines
    sink: TrainingSink
    heldout_sink: GroupSink
    learner: Learner
    store: Store
    events: EventSink
    train_requests: Callable[[int], list[GroupRequest]]
    heldout_requests: Callable[[int], list[GroupRequest]]
    describe: Callable[[Sequence[Group], Sequence[GroupScore]], Mapping[str, float]]
    match_rows: Callable[[Sequence[Group], Sequence[GroupScore]], list[dict[str, Any]]]
    audit: Callable[[], AbstractAsyncContextManager[GroupSink]] | None = None
    colocated: bool = False
    first_step: int = 1
    start_s: float = 0.0

    _seconds: dict[str, float] = field(default_factory=dict, init=False)
    _phase_started: tuple[Phase, float] | None = field(default=None, init=False)
    _start_answers: list[Group] = field(default_factory=list, init=False)
    _last_games: Games | None = field(default=None, init=False)
    _evaluated_step: int = field(default=0, init=False)
    _judge_calls: float = field(default=0.0, init=False)
    _totals: dict[str, float] = field(default_factory=dict, init=False)
    _asleep: bool = field(default=False, init=False)
    _saved_step: int = field(default=0, init=False)
    _in_steps: bool = field(default=False, init=False)
    _stopping: bool = field(default=False, init=False)
    _sampling: asyncio.Future[Judged] | None = field(default=None, init=False)

    async def run(self) -> dict[str, Any]:
        """Train to the last step; returns what summary.json holds.

        Raises:
            RunStopped: the run stopped itself before it could do harm; the last checkpoint stands.
        """
        self._totals["start"] = self._totals.get("start", 0.0) + self.start_s
        await self._prepare()
        self._in_steps = True
        for step in range(self.first_step, self.rl.num_steps + 1):
            self._seconds = {}
            groups, scores = await self._interruptible(step, self._sample_and_judge(step))
            metrics = await self._learn(step, groups, scores)
            metrics |= await self._sync(step)
            metrics |= await self._evaluate(step)
            await self._save(step, asked=self._stopping)
            self._report(step, metrics)
            if self._stopping:
                raise asyncio.CancelledError
        self._in_steps = False
        return await self._finish()

    def request_stop(self) -> bool:
        """End the run in good order: sampling is broken off, a step that is being learned is finished; both are saved.

        Returns:
            False before the first and after the last step, where there is nothing to save: cancel the run instead.
        """
        if not self._in_steps:
            return False
        self._stopping = True
        if self._sampling is not None:
            self._sampling.cancel()
        return True

    async def _interruptible(self, step: int, sampling: Coroutine[Any, Any, Judged]) -> Judged:
        """The result; a requested stop saves the step before this one."""
        self._sampling = asyncio.ensure_future(sampling)
        try:
            return await self._sampling
        except asyncio.CancelledError:
            if self._stopping and step > 1:
                await self._save(step - 1, asked=True)
            raise
        finally:
            self._sampling = None

    # --- the verbs --------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """The starting model's held-out answers, then the learner's weights on every engine."""
        self._seconds = {}
        self._enter("evaluate", self.first_step - 1)
        saved = self.store.load_start_answers()
        if saved is None:
            if self.first_step > 1:
                raise RunStopped(
                    "the starting model's held-out answers are gone (evaluation/start.parquet); restore it"
                )
            saved = await self.engines.sample(self.heldout_requests(0))
            self.store.save_start_answers(saved)
        self._start_answers = saved
        if self.first_step > 1:
            await self._sync(self.first_step - 1)
        self._leave()
        self._keep_totals()

    async def _sample_and_judge(self, step: int) -> Judged:
        if self.store.has_groups(step):
            self.events.handle(Note("info", f"step {step}: learning from the groups on disk"))
            groups, scores = self.store.load_groups(step)
            self.sink.prior = self.store.load_prior(step)
            return groups, scores
        self._enter("sample", step)
        groups = await self.engines.sample(self.train_requests(step), self.sink)
        check_versions(groups, expected=step - 1)
        self._enter("judge", step)
        by_key = await self.sink.scores()
        scores = [by_key[group.key] for group in groups]
        self._enter("save", step)
        self.store.save_matches(step, self.match_rows(groups, scores))
        self.store.save_groups(step, groups, scores, prior=self.sink.prior)
        return groups, scores

    async def _learn(self, step: int, groups: list[Group], scores: list[GroupScore]) -> dict[str, float]:
        self._enter("learn", step)
        batch = build_train_batch(groups, scores, advantage=self.objective.advantage, min_group=self.rl.min_group)
        metrics = dict(batch.metrics) | dict(self.describe(groups, scores))
        self._judge_calls += sum(score.num_calls for score in scores)
        if (reason := self._reason_to_skip(batch)) is not None:
            self.events.handle(Note("warning", f"step {step}: no update, {reason}"))
            return metrics | {"rl/skipped": 1.0}
        if self.colocated:
            await self.engines.sleep()
            self._asleep = True
        metrics |= await self.learner.step(batch.groups)
        check_gap(metrics, self.rl.max_logprob_gap, step)
        return metrics | {"rl/skipped": 0.0}

    def _reason_to_skip(self, batch: TrainBatch) -> str | None:
        if not batch.groups:
            return "no group has enough scored rollouts"
        if batch.reliability is not None and batch.reliability < self.rl.min_batch_reliability:
            return f"batch reliability {batch.reliability:.3f} is under {self.rl.min_batch_reliability}"
        return None

    async def _sync(self, step: int) -> dict[str, float]:
        self._enter("sync", step)
        asleep = self._asleep
        if asleep:
            await self.engines.wake(["weights"])
        verify = step % self.rl.sync.verify_every == 0
        await self.engines.heal()
        try:
            metrics = await self.learner.sync(step, verify=verify)
        except RunStopped:
            # An engine that died on the way broke the transfer off; what else stops a sync stops the run.
            if not await self.engines.heal(everyone=True):
                raise
            metrics = await self.learner.sync(step, verify=verify)
        if asleep:
            await self.engines.wake(["kv_cache"])
            self._asleep = False
        return {f"sync/{name}": value for name, value in metrics.items()}

    async def _evaluate(self, step: int) -> dict[str, float]:
        every = self.evaluation.every
        if step != self.rl.num_steps and (every is None or step % every != 0):
            return {}
        self._enter("evaluate", step)
        games = await self._play(step)
        self.store.save_evaluation(step, games.rows)
        self._last_games, self._evaluated_step = games, step
        self._judge_calls += games.num_calls
        return games.metrics

    async def _play(self, step: int) -> Games:
        answers = await self.engines.sample(self.heldout_requests(step))
        check_versions(answers, expected=step)
        pairs = pair_answers(self._start_answers, answers)
        return self._tally(pairs, await judge_pairs(pairs, self.heldout_sink))

    def _tally(self, pairs: Sequence[Pair], scores: Mapping[GroupKey, GroupScore]) -> Games:
        prompt_ids = [group.prompt.id for group in self._start_answers]
        return tally(prompt_ids, pairs, scores, self.evaluation, seed=self.seed)

    async def _save(self, step: int, *, asked: bool = False) -> None:
        """A checkpoint where one is due or `asked` for; one that is there already is not written again."""
        due = step == self.rl.num_steps or step % self.rl.checkpoint.every == 0
        if not (due or asked) or self._saved_step == step:
            return
        self._enter("save", step)
        extra = {
            "step": step,
            "prior": self.sink.prior,
            "judge_calls": self._judge_calls,
            "totals": _sum(self._totals, self._seconds),  # the step is not over, but its phases so far count
            "judge_cache": self.store.judge_cache(),
        }
        await self.learner.save(self.store.checkpoint_path(step), extra)
        self._saved_step = step
        self.store.prune_checkpoints(self.rl.checkpoint.keep, self._best_checkpoints(step))

    def _best_checkpoints(self, step: int) -> list[int]:
        """Steps to spare for their held-out win rates; the later of two that are equal."""
        win_rates = {row["step"]: row["heldout/win_rate"] for row in self.store.metrics() if "heldout/win_rate" in row}
        if self._last_games is not None and self._evaluated_step == step:
            win_rates[step] = self._last_games.metrics["heldout/win_rate"]
        saved = [saved for saved in self.store.checkpoints() if math.isfinite(win_rates.get(saved, math.nan))]
        return sorted(saved, key=lambda saved: (-win_rates[saved], -saved))[: self.rl.checkpoint.keep_best]

    async def _finish(self) -> dict[str, Any]:
        """The second judge's word on the last evaluation's answers, then the summary."""
        summary: dict[str, Any] = {
            "steps": self.rl.num_steps,
            "final_checkpoint": f"checkpoints/step_{self.rl.num_steps}",
        }
        self._enter("evaluate", self.rl.num_steps)
        # None where the run was killed between its last checkpoint and its summary.
        games = self._last_games or await self._play(self.rl.num_steps)
        summary |= {"heldout": games.result, "mean_length": games.mean_length}
        if self.audit is not None:
            summary["audit"] = await self._audit(games, self.audit)
        self._leave()
        self._keep_totals()
        summary |= {"judge_calls": int(self._judge_calls), "seconds_by_phase": dict(self._totals)}
        self.store.save_summary(summary)
        self.events.handle(RunDone(summary))
        return summary

    async def _audit(self, games: Games, audit: Callable[[], AbstractAsyncContextManager[GroupSink]]) -> dict[str, Any]:
        """A second, different judge on the same pairs: its win rate, and how often both agree."""
        async with audit() as sink:
            scores = await judge_pairs(games.pairs, sink)
        second = self._tally(games.pairs, scores)
        agreement = judge_agreement(games.outcomes, second.outcomes)
        self._judge_calls += second.num_calls
        judged = judged_alone(games.pairs, second.outcomes, games.ungated, self.evaluation, seed=self.seed)
        facts = {"judged": judged, "agreement": agreement.to_json(), "judge_calls": second.num_calls}
        return second.result | facts

    # --- bookkeeping ------------------------------------------------------------------------------------------

    def _enter(self, phase: Phase, step: int) -> None:
        self._leave()
        now = time.monotonic()
        self._phase_started = (phase, now)
        self.events.handle(PhaseStarted(step, phase, now))

    def _leave(self) -> None:
        if self._phase_started is not None:
            phase, started = self._phase_started
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.monotonic() - started
            self._phase_started = None

    def _keep_totals(self) -> None:
        self._totals = _sum(self._totals, self._seconds)
        self._seconds = {}

    def _report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._leave()
        times = {f"time/{phase}_s": seconds for phase, seconds in self._seconds.items()}
        times["time/step_s"] = sum(self._seconds.values())
        if (sampling := self._seconds.get("sample", 0.0)) > 0:
            times["rollout/tokens_per_s"] = metrics.get("rollout/num_tokens", 0.0) / sampling
            judging = sampling + self._seconds.get("judge", 0.0)  # judging overlaps sampling
            times["judge/calls_per_s"] = metrics.get("judge/num_calls", 0.0) / judging
        self._keep_totals()
        self.events.handle(StepDone(step, dict(metrics) | times))

    def restore(self, extra: Mapping[str, Any]) -> None:
        """Go on after the checkpoint whose `extra` this is."""
        self.first_step = int(extra["step"]) + 1
        self._saved_step = int(extra["step"])
        self.sink.prior = extra["prior"]
        self._judge_calls = float(extra["judge_calls"])
        self._totals = dict(extra["totals"])


def _sum(totals: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: totals.get(phase, 0.0) + seconds.get(phase, 0.0) for phase in {**totals, **seconds}}


def check_versions(groups: Sequence[Group], *, expected: int) -> None:
    """Every token must come from the policy that is about to be updated.

    Raises:
        RunStopped: an engine sampled with another version, so a weight sync was skipped or lost.
    """
    for group in groups:
        for rollout in group.rollouts:
            if rollout is None:
                continue
            wrong = [span.version for span in rollout.versions if span.version != expected]
            if wrong:
                raise RunStopped(
                    f"rollout {rollout.key}/{rollout.index} was sampled by policy version {wrong[0]}, not {expected}: "
                    "a weight sync was skipped; resume from the last checkpoint"
                )


def check_gap(metrics: Mapping[str, float], limit: float, step: int) -> None:
    """The engines must assign the sampled tokens the probabilities that the learner does.

    Raises:
        RunStopped: the mean gap is over the limit or not finite, so engines and learner hold different weights.
    """
    gap = metrics.get("sync/logprob_gap", 0.0)
    if not math.isfinite(gap) or gap > limit:
        raise RunStopped(
            f"step {step}: learner and engines differ by {gap:.3f} nats per sampled token, more than "
            f"rl.max_logprob_gap = {limit}: the engines do not hold the learner's weights; nothing was saved"
        )
