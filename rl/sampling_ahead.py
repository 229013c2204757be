"""A step's groups for the loop: got when they are asked for, or, with `rl.staleness: 1`, while a step is learned.

    staleness 0                                    staleness 1
    engines  get(t) ........ get(t+1) ........     engines  get(t+1) .... get(t+2) ....     weights: of step t-1, t
    loop            learn(t)          learn(t+1)   loop     learn(t)  sync  learn(t+1) sync
                    sync(t)           sync(t+1)                    `-- waits for get(t+1)

Engines change weights between two steps' rollouts, never within them: what is sampled ahead follows from weights and
seeds, not from how fast the learner was. The one exception is an engine that dies while a step is learned: the new
one gets the learner's weights as they are by then, and the versions of its rollouts say so.
"""

from __future__ import annotations

import asyncio

from rl.clock import Clock
from rl.events import Phase
from rl.step_groups import GroupSource, StepGroups


class _Phases:
    """Phases of work beside the loop: not told before the loop waits for it, since a clock has one phase at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now: tuple[Phase, int] | None = None
        self._in_front = False

    def enter(self, phase: Phase, step: int) -> None:
        self._now = phase, step
        if self._in_front:
            self._clock.enter(phase, step)

    def come_forward(self) -> None:
        if not self._in_front and self._now is not None:
            self._clock.enter(*self._now)
        self._in_front = True


class SamplingAhead:
    """At most one step's groups are being got, or are there and wait to be taken."""

    def __init__(self, source: GroupSource, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self._task: asyncio.Task[StepGroups] | None = None
        self._phases = _Phases(clock)

    def start(self, step: int) -> None:
        """Begin to get the groups of `step` beside whatever the loop does next."""
        assert self._task is None, "the groups before these have not been taken"
        self._phases = _Phases(self._clock)
        self._task = asyncio.create_task(self._source.get(step, self._phases.enter), name=f"groups of step {step}")

    async def finish(self) -> None:
        """Wait until nothing is being sampled. What was broken off by `cancel` is forgotten.

        Raises:
            RunStopped: as `GroupSource.get`.
        """
        if self._task is None:
            return
        if not self._task.done():
            self._phases.come_forward()
            await asyncio.wait([self._task])
        if self._task.cancelled():
            self._task = None
        else:
            self._task.result()

    async def take(self, step: int) -> StepGroups:
        """The groups of `step`, got now if nobody started them.

        Raises:
            RunStopped: as `GroupSource.get`.
            asyncio.CancelledError: `cancel` broke them off.
        """
        if self._task is None:
            self.start(step)
        await self.finish()
        task, self._task = self._task, None
        if task is None:
            raise asyncio.CancelledError
        return task.result()

    def cancel(self) -> None:
        """Break off what is being got; groups that are on disk stay."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Break off and wait until nothing of it is left."""
        self.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
