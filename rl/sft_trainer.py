"""The loop of supervised learning: learn, evaluate, save.

    rows of step n --> Learner.step --> held-out loss where due --> metrics --> checkpoint where due

One asyncio task drives the learner's ranks. Which rows a step learns from follows from the seed, so a run that was
killed goes on after its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rl.alarms import learning
from rl.events import EventSink, Note, Progress, RunDone, StepDone
from rl.phases import PhaseClock
from rl.sft import HeldoutLoss, heldout_loss
from rl.sft_config import SFTConfig
from rl.types import TrainGroup

RENAMED = {"rl/loss": "sft/loss", "rl/num_tokens": "sft/num_tokens"}
LEFT_OUT = ("rl/policy_loss",)

EVALUATED_AT_ONCE = 256
"""Held-out groups between two signs of life."""


class SFTLearner(Protocol):
    """What the loop needs from the learner's ranks."""

    async def step(self, groups: Sequence[TrainGroup]) -> dict[str, float]: ...
    async def logprobs(self, groups: Sequence[TrainGroup]) -> list[npt.NDArray[np.float32]]: ...
    async def save(self, path: Any, extra: Mapping[str, Any]) -> None: ...


class SFTStore(Protocol):
    """The run directory, as far as the loop writes and reads it."""

    def checkpoint_path(self, step: int) -> Any: ...
    def prune_checkpoints(self, keep: int, spared: Collection[int]) -> list[int]: ...
    def checkpoints(self) -> list[int]: ...
    def metrics(self) -> list[dict[str, Any]]: ...
    def save_summary(self, summary: Mapping[str, Any]) -> None: ...


@dataclass
class SFTTrainer:
    """A run from `first_step` to `num_steps`. groups_of(step) gives what a step learns from; `heldout` may be empty."""

    config: SFTConfig
    num_steps: int
    learner: SFTLearner
    store: SFTStore
    events: EventSink
    clock: PhaseClock
    groups_of: Callable[[int], Sequence[TrainGroup]]
    heldout: Sequence[TrainGroup]
    first_step: int = 1

    _before: HeldoutLoss | None = field(default=None, init=False)
    _after: HeldoutLoss | None = field(default=None, init=False)
    _in_steps: bool = field(default=False, init=False)
    _stopping: bool = field(default=False, init=False)

    async def run(self) -> dict[str, Any]:
        """Learn to the last step; returns what summary.json holds.

        Raises:
            RunStopped: a loss or gradient is not finite; the last checkpoint stands.
        """
        if self.heldout and self._before is None:
            self._before = await self._evaluate(self.first_step - 1)
            self.events.handle(Note("info", f"held-out loss before the first step: {_loss_text(self._before)}"))
        self.clock.end_step()
        self._in_steps = True
        for step in range(self.first_step, self.num_steps + 1):
            self.clock.enter("learn", step)
            with learning(step):
                metrics = _named(await self.learner.step(self.groups_of(step)))
            if self.heldout and self._due(step, self.config.evaluate_every):
                self._after = await self._evaluate(step)
                metrics |= {"sft/heldout_loss": self._after.loss, "sft/heldout_perplexity": self._after.perplexity}
            self.events.handle(StepDone(step, metrics | self.clock.end_step()))
            await self._save(step)
            if self._stopping:
                raise asyncio.CancelledError
        self._in_steps = False
        return await self._finish()

    def request_stop(self) -> bool:
        """End the run in good order: the step that is being learned is finished and saved.

        Returns:
            False before the first and after the last step, where there is nothing to save: cancel the run instead.
        """
        self._stopping = self._in_steps
        return self._in_steps

    def _due(self, step: int, every: int | None) -> bool:
        return step == self.num_steps or (every is not None and step % every == 0)

    async def _evaluate(self, step: int) -> HeldoutLoss:
        self.clock.enter("evaluate", step)
        total = sum(len(group.rollouts) for group in self.heldout)
        logprobs: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(self.heldout), EVALUATED_AT_ONCE):
            logprobs += await self.learner.logprobs(self.heldout[start : start + EVALUATED_AT_ONCE])
            self.events.handle(Progress("evaluate", len(logprobs), total, "rows"))
        return heldout_loss(self.heldout, logprobs)

    async def _save(self, step: int) -> None:
        if not (self._due(step, self.config.checkpoint.every) or self._stopping):
            return
        self.clock.enter("save", step)
        before = None if self._before is None else [self._before.loss, self._before.num_tokens]
        extra = {"step": step, "totals": self.clock.so_far(), "before": before}
        await self.learner.save(self.store.checkpoint_path(step), extra)
        losses = {row["step"]: row["sft/heldout_loss"] for row in self.store.metrics() if "sft/heldout_loss" in row}
        known = [saved for saved in self.store.checkpoints() if math.isfinite(losses.get(saved, math.nan))]
        best = sorted(known, key=lambda saved: (losses[saved], -saved))[: self.config.checkpoint.keep_best]
        self.store.prune_checkpoints(self.config.checkpoint.keep, best)

    async def _finish(self) -> dict[str, Any]:
        if self.heldout and self._after is None:  # killed between its last checkpoint and its summary
            self._after = await self._evaluate(self.num_steps)
        self.clock.end_step()
        summary: dict[str, Any] = {"kind": "sft", "steps": self.num_steps}
        if self._before is not None and self._after is not None:
            summary["heldout_loss"] = {
                "before": self._before.loss,
                "after": self._after.loss,
                "perplexity": {"before": self._before.perplexity, "after": self._after.perplexity},
                "num_tokens": self._after.num_tokens,
            }
        summary["seconds_by_phase"] = dict(self.clock.totals)
        summary["final_checkpoint"] = f"checkpoints/step_{self.num_steps}"
        self.store.save_summary(summary)
        self.events.handle(RunDone(summary))
        return summary

    def restore(self, extra: Mapping[str, Any]) -> None:
        """Go on after the checkpoint whose `extra` this is."""
        self.first_step = int(extra["step"]) + 1
        self.clock.totals = dict(extra["totals"])
        self._before = None if extra["before"] is None else HeldoutLoss(*extra["before"])


def _named(metrics: Mapping[str, float]) -> dict[str, float]:
    return {RENAMED.get(key, key): value for key, value in metrics.items() if key not in LEFT_OUT}


def _loss_text(loss: HeldoutLoss) -> str:
    return f"{loss.loss:.4f} nats a token, perplexity {loss.perplexity:.2f}"
