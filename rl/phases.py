"""Which phase a run is in, and how many seconds each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rl.events import EventSink, Phase, PhaseStarted


class PhaseClock:
    """Tells the events of each phase; `totals` are seconds of all steps that are over."""

    def __init__(self, events: EventSink, clock: Callable[[], float] = time.monotonic):
        self.totals: dict[str, float] = {}
        self._events, self._clock = events, clock
        self._seconds: dict[str, float] = {}
        self._phase: tuple[Phase, float] | None = None

    def enter(self, phase: Phase, step: int) -> None:
        """The phase before ends."""
        self.leave()
        now = self._clock()
        self._phase = (phase, now)
        self._events.handle(PhaseStarted(step, phase, now))

    def leave(self) -> None:
        if self._phase is not None:
            phase, started = self._phase
            self._seconds[phase] = self._seconds.get(phase, 0.0) + self._clock() - started
            self._phase = None

    def so_far(self) -> dict[str, float]:
        """Seconds of all phases that have ended, those of the present step included."""
        return added(self.totals, self._seconds)

    def end_step(self) -> dict[str, float]:
        """`time/<phase>_s` and `time/step_s` of the step, which is over."""
        self.leave()
        times = {f"time/{phase}_s": seconds for phase, seconds in self._seconds.items()}
        times["time/step_s"] = sum(self._seconds.values())
        self.totals, self._seconds = self.so_far(), {}
        return times


def added(totals: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: totals.get(phase, 0.0) + seconds.get(phase, 0.0) for phase in {**totals, **seconds}}
