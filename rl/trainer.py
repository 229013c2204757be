"""The loop: sample, judge, learn, sync, evaluate, save.

    for each step:   prompts --sample--> groups --judge--> scores --learn--> weights --sync--> engines at version = step
                                 \\__ rollouts reach the judge as they finish __/
                     then evaluate where the recipe says so, write the step's row, and save where it says so

One asyncio task drives everything, and with `rl.staleness: 1` a second one samples and judges the next step while this
one is learned (`rl/sampling_ahead.py`); engines, judges and learner ranks work behind the protocols of `rl/seams.py`. A
step's groups are on disk before they are learned from, and those that were sampled ahead before the step's checkpoint
is written: a run that was killed learns from the same groups again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rewards.alarms import JudgeAlarm, judge_warnings
from rewards.errors import BatchRejected, RunStopped
from rewards.types import GroupScore, GroupSink
from rl.alarms import check_gap, learning
from rl.clock import Clock
from rl.config import EvaluationConfig, RLConfig
from rl.dynamic_sampling import refill_metrics
from rl.evaluator import Evaluator, OpenAudit
from rl.events import EventSink, Note, RunDone, StepDone
from rl.heldout import Games
from rl.objectives import Objective
from rl.probe import probe, probe_requests
from rl.sampling_ahead import SamplingAhead
from rl.seams import Engines, Learner, Store, TrainingSink
from rl.shaping import shape_batch
from rl.step_groups import GroupSource, StepGroups
from rl.train_batch import TrainBatch, build_train_batch
from rollouts.types import Group, GroupRequest


@dataclass
class Trainer:
    """A run from `first_step` to the recipe's last step.

    train_requests(step) gives a training step's requests, refill_requests(step, refill, num) those that refill 1, 2, ..
    puts in the place of groups that teach nothing, heldout_requests(step) those of an evaluation (0 = the starting
    model's answers). describe turns groups and scores into judge-health metrics, match_rows into the rows of
    the match log. judge_alarms hold a step's metrics against the recipe's thresholds. audit opens the second judge's
    sink; None if the recipe has none. run_totals gives more entries of the summary. start_s: seconds that it took to
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
    refill_requests: Callable[[int, int, int], list[GroupRequest]]
    heldout_requests: Callable[[int], list[GroupRequest]]
    describe: Callable[[Sequence[Group], Sequence[GroupScore]], Mapping[str, float]]
    match_rows: Callable[[Sequence[Group], Sequence[GroupScore]], list[dict[str, Any]]]
    judge_alarms: Sequence[JudgeAlarm] = ()
    audit: OpenAudit | None = None
    run_totals: Callable[[], Mapping[str, Any]] = dict
    num_engines: int = 1
    colocated: bool = False
    first_step: int = 1
    start_s: float = 0.0

    _judge_calls: float = field(default=0.0, init=False)
    _asleep: bool = field(default=False, init=False)
    _saved_step: int = field(default=0, init=False)
    _in_steps: bool = field(default=False, init=False)
    _stopping: bool = field(default=False, init=False)
    _evaluation: asyncio.Task[Games] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._clock = Clock(self.events)
        self._clock.add("start", self.start_s)
        self._source = GroupSource(
            self.rl,
            self.objective,
            self.engines,
            self.sink,
            self.store,
            self.events,
            requests=self.train_requests,
            refill_requests=self.refill_requests,
            match_rows=self.match_rows,
        )
        self._sampling = SamplingAhead(self._source, self._clock)
        self._evaluator = Evaluator(
            self.evaluation, self.seed, self.engines, self.heldout_sink, self.store, requests=self.heldout_requests
        )

    async def run(self) -> dict[str, Any]:
        """Train to the last step; returns what summary.json holds.

        Raises:
            RunStopped: the run stopped itself before it could do harm; the last checkpoint stands.
        """
        await self._prepare()
        self._in_steps = True
        try:
            for step in range(self.first_step, self.rl.num_steps + 1):
                await self._step(step)
                if self._stopping:
                    raise asyncio.CancelledError
        finally:
            self._in_steps = False
            await self._sampling.close()
        return await self._finish()

    async def _step(self, step: int) -> None:
        batch = await self._sample_and_judge(step)
        if self.rl.staleness and step < self.rl.num_steps:
            self._sampling.start(step + 1)
        metrics = await self._learn(step, batch)
        await self._sampling.finish()
        metrics |= await self._sync(step)
        metrics |= await self._probe(step)
        metrics |= await self._evaluate(step)
        # Before the checkpoint: a resumed run drops a row that has none, and makes up for no row that is missing.
        self._report(step, batch, metrics)
        await self._save(step, asked=self._stopping)

    def request_stop(self) -> bool:
        """End the run in good order, and soon: a step that is being learned is finished, and the last step is saved.

        Sampling and evaluation are broken off.

        Returns:
            False before the first and after the last step, where there is nothing to save: cancel the run instead.
        """
        if not self._in_steps:
            return False
        self._stopping = True
        self._sampling.cancel()
        if self._evaluation is not None:
            self._evaluation.cancel()
        return True

    def restore(self, extra: Mapping[str, Any]) -> None:
        """Go on after the checkpoint whose `extra` this is."""
        self.first_step = int(extra["step"]) + 1
        self._saved_step = int(extra["step"])
        self._source.restore(extra["prior"])
        self._judge_calls = float(extra["judge_calls"])
        self._clock.totals = dict(extra["totals"])
        self._clock.add("start", self.start_s)

    # --- the verbs --------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """The starting model's held-out answers, then the learner's weights on every engine."""
        resumed = self.first_step > 1
        self._clock.enter("evaluate", self.first_step - 1)
        await self._evaluator.prepare(resumed=resumed)
        if resumed:
            await self._sync(self.first_step - 1)
        self._clock.end_step()

    async def _sample_and_judge(self, step: int) -> StepGroups:
        """The step's groups; a requested stop saves the step before this one."""
        try:
            return await self._sampling.take(step)
        except asyncio.CancelledError:
            if self._stopping and step > 1:
                await self._save(step - 1, asked=True)
            raise

    async def _learn(self, step: int, sampled: StepGroups) -> dict[str, float]:
        """What was learned; groups that must not be learned from are set aside, for a resumed run to sample anew."""
        self._clock.enter("learn", step)
        try:
            return await self._learn_from(step, sampled)
        except BatchRejected:
            kept_as = self.store.reject_groups(step)
            self.events.handle(
                Note("warning", f"step {step}: a resumed run samples it again; its groups are {kept_as}")
            )
            raise

    async def _learn_from(self, step: int, sampled: StepGroups) -> dict[str, float]:
        groups, scores = sampled.learned()
        build = partial(build_train_batch, groups, objective=self.objective, min_group=self.rl.min_group)
        batch = build(scores)
        for line in batch.warnings:
            self.events.handle(Note("warning", f"step {step}: {line}"))
        metrics = dict(batch.metrics) | dict(self.describe(sampled.groups, sampled.scores))
        if self.rl.dynamic_sampling is not None:
            metrics |= refill_metrics(sampled.kept, num_wanted=sampled.num_wanted)
        self._judge_calls += sum(score.num_calls + score.num_calls_about_judge for score in sampled.scores)
        if self.judge_alarms:
            warnings = judge_warnings(self.judge_alarms, metrics, step)
            for line in warnings:
                self.events.handle(Note("warning", line))
            metrics["judge/num_alarms"] = float(len(warnings))
        if (reason := self._reason_to_skip(batch)) is not None:
            self.events.handle(Note("warning", f"step {step}: no update, {reason}"))
            return metrics | {"rl/skipped": 1.0}
        if self.colocated:
            await self.engines.heal()
            await self.engines.sleep()
            self._asleep = True
        batch = await shape_batch(batch, scores, build, objective=self.objective, learner=self.learner)
        metrics |= batch.metrics
        with learning(step):
            learned = await self.learner.step(batch.groups)
        if self.rl.staleness:
            # Engine and learner differ by what was learned since; `_probe` looks at equal weights.
            learned = {name.replace("sync/", "stale/", 1): value for name, value in learned.items()}
            learned["stale/mean_versions"] = sampled.mean_staleness(step)
        check_gap(learned, self.rl.max_logprob_gap, step)
        metrics |= {"rl/skipped": 0.0} | learned
        if metrics["rl/skipped"] == 1.0:
            self.events.handle(Note("warning", f"step {step}: no update, every group's rewards are equal"))
        return metrics

    def _reason_to_skip(self, batch: TrainBatch) -> str | None:
        if not batch.groups:
            return "no group teaches anything" if self.rl.dynamic_sampling else "no group has enough scored rollouts"
        if batch.reliability is not None and batch.reliability < self.rl.min_batch_reliability:
            return f"batch reliability {batch.reliability:.3f} is under {self.rl.min_batch_reliability}"
        return None

    async def _sync(self, step: int) -> dict[str, float]:
        self._clock.enter("sync", step)
        await self.engines.heal()
        asleep = self._asleep
        if asleep:
            await self.engines.wake(["weights"])
        verify = step % self.rl.sync.verify_every == 0
        while True:
            try:
                metrics = await self.learner.sync(step, verify=verify)
                break
            except RunStopped:
                # An engine that died on the way broke the transfer off; what else stops a sync stops the run, and so do
                # engines that die too often.
                if not await self.engines.heal(everyone=True):
                    raise
        if asleep:
            await self.engines.wake(["kv_cache"])
            self._asleep = False
        return {f"sync/{name}": value for name, value in metrics.items()}

    async def _probe(self, step: int) -> dict[str, float]:
        """With stale rollouts: do the engines hold the weights that they were just sent?"""
        if not self.rl.staleness or step % self.rl.sync.verify_every:
            return {}
        requests = probe_requests(self.train_requests(step), step, num=self.num_engines)
        if (metrics := await probe(requests, self.engines, self.learner, version=step)) is None:
            self.events.handle(
                Note("warning", f"step {step}: no probe came back, the sync is proven by its bytes only")
            )
            return {}
        check_gap(metrics, self.rl.max_logprob_gap, step)
        return metrics

    async def _evaluate(self, step: int) -> dict[str, float]:
        if not self._evaluator.is_due(step, last_step=self.rl.num_steps):
            return {}
        if not self._stopping:
            self._clock.enter("evaluate", step)
            self._evaluation = asyncio.create_task(self._evaluator.evaluate(step), name=f"evaluation of step {step}")
            try:
                games = await self._evaluation
            except asyncio.CancelledError:
                if not self._stopping or _is_cancelled():
                    raise
            else:
                self._judge_calls += games.num_calls
                return games.metrics
            finally:
                self._evaluation = None
        self.events.handle(Note("warning", f"step {step}: not evaluated, the run was asked to stop"))
        return {}

    async def _save(self, step: int, *, asked: bool = False) -> None:
        """A checkpoint where one is due or `asked` for; one that is there already is not written again."""
        due = step == self.rl.num_steps or step % self.rl.checkpoint.every == 0
        if not (due or asked) or self._saved_step == step:
            return
        self._clock.enter("save", step)
        extra = {
            "step": step,
            "prior": self._source.prior,
            "judge_calls": self._judge_calls,
            "totals": self._clock.totals_now(),
            "judge_cache": self.store.judge_cache(),
        }
        await self.learner.save(self.store.checkpoint_path(step), extra)
        self._saved_step = step
        self.store.prune_checkpoints(self.rl.checkpoint.keep, self._best_checkpoints())

    def _best_checkpoints(self) -> list[int]:
        """Steps to spare for their held-out win rates; the later of two that are equal."""
        win_rates = {row["step"]: row["heldout/win_rate"] for row in self.store.metrics() if "heldout/win_rate" in row}
        saved = [saved for saved in self.store.checkpoints() if math.isfinite(win_rates.get(saved, math.nan))]
        return sorted(saved, key=lambda saved: (-win_rates[saved], -saved))[: self.rl.checkpoint.keep_best]

    def _report(self, step: int, sampled: StepGroups, metrics: Mapping[str, float]) -> None:
        times = self._clock.end_step()
        if sampled.sample_s > 0:
            times["rollout/tokens_per_s"] = sampled.num_tokens / sampled.sample_s
            judging = sampled.sample_s + sampled.judge_s  # judging overlaps sampling
            times["judge/calls_per_s"] = metrics.get("judge/num_calls", 0.0) / judging
        self.events.handle(StepDone(step, dict(metrics) | times))

    async def _finish(self) -> dict[str, Any]:
        """The second judge's word on the last evaluation's answers, then the summary."""
        last = self.rl.num_steps
        summary: dict[str, Any] = {"steps": last, "final_checkpoint": f"checkpoints/step_{last}"}
        self._clock.enter("evaluate", last)
        # None where the run ended between its last checkpoint and its summary.
        games = self._evaluator.last_games or await self._evaluator.evaluate(last)
        summary |= {"heldout": games.result, "mean_length": games.mean_length}
        if self.audit is not None:
            summary["audit"] = await self._evaluator.audit(games, self.audit)
            self._judge_calls += summary["audit"]["judge_calls"]
        self._clock.end_step()
        summary |= {"judge_calls": int(self._judge_calls), "seconds_by_phase": dict(self._clock.totals)}
        summary |= self.run_totals()
        self.store.save_summary(summary)
        self.events.handle(RunDone(summary))
        return summary


def _is_cancelled() -> bool:
    """Whether somebody cancelled the running task itself, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
