"""Counts rollouts and judge calls inside a phase and tells the tracker, at most twice a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from recipes.schema import Recipe
from rewards.types import Call, GroupKey, Ranking
from rl.events import Event, EventSink, Note, PhaseStarted, Progress
from rollouts.types import Rollout

INTERVAL_S = 0.5


class ProgressMeter:
    """An EventSink in front of the tracker that adds Progress events from the two hooks."""

    def __init__(self, recipe: Recipe, tracker: EventSink, clock: Callable[[], float] = time.monotonic):
        self._recipe = recipe
        self._tracker = tracker
        self._clock = clock
        self._reset("start")

    def _reset(self, phase: str) -> None:
        self._phase = phase
        self._started = self._told = self._clock()
        self._rollouts = self._tokens = self._calls = 0

    def starting(self) -> None:
        self.handle(PhaseStarted(0, "start", self._clock()))

    def handle(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            if (self._phase, event.phase) == ("learn", "sample"):
                self._phase = event.phase  # sampled ahead while the step was learned: those rollouts count
            else:
                self._reset(event.phase)
        self._tracker.handle(event)

    def close(self) -> None:
        self._tracker.close()

    def on_rollout(self, rollout: Rollout) -> None:
        self._rollouts += 1
        self._tokens += rollout.num_tokens
        self._tell()

    def on_engine_replaced(self, number: int, cause: str) -> None:
        text = f"engine {number} died and is replaced, its unfinished rollouts are sampled again: {cause}"
        self._tracker.handle(Note("warning", text))

    def on_call(self, key: GroupKey, call: Call | Ranking) -> None:
        self._calls += 1
        self._tell()

    def _tell(self) -> None:
        now = self._clock()
        if now - self._told < INTERVAL_S:
            return
        self._told = now
        seconds = now - self._started
        rates = {"tokens": self._tokens / seconds, "judge calls": self._calls / seconds}
        if self._phase == "sample":
            rollouts = self._recipe.rollouts
            total = rollouts.prompts_per_step * rollouts.group_size
            self._tracker.handle(Progress("sample", self._rollouts, total, "rollouts", rates))
        elif self._phase == "evaluate":
            total = self._recipe.evaluation.num_prompts * self._recipe.evaluation.rollouts_per_prompt
            self._tracker.handle(Progress("evaluate", self._rollouts, total, "rollouts", rates))
        elif self._phase == "judge":
            self._tracker.handle(Progress("judge", self._calls, None, "calls", rates))
