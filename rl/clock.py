"""Phases of a run and the seconds they take."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rl.events import EventSink, Phase, PhaseStarted


class Clock:
    """One phase at a time: entering one ends the one before it.

    seconds: of the present step by phase. totals: of the run by phase, steps that are over.
    """

    def __init__(self, events: EventSink) -> None:
        self._events = events
        self._started: tuple[Phase, float] | None = None
        self.seconds: dict[str, float] = {}
        self.totals: dict[str, float] = {}

    def enter(self, phase: Phase, step: int) -> None:
        self.leave()
        now = time.monotonic()
        self._started = (phase, now)
        self._events.handle(PhaseStarted(step, phase, now))

    def leave(self) -> None:
        if self._started is not None:
            phase, started = self._started
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - started
            self._started = None

    def add(self, phase: Phase, seconds: float) -> None:
        """Seconds of a phase that ran before this clock."""
        self.totals[phase] = self.totals.get(phase, 0.0) + seconds

    def totals_now(self) -> dict[str, float]:
        """Totals with the present step's finished phases in them."""
        return _sum(self.totals, self.seconds)

    def end_step(self) -> dict[str, float]:
        """Ends the phase and the step; returns the step's seconds as metrics."""
        self.leave()
        times = {f"time/{phase}_s": seconds for phase, seconds in self.seconds.items()}
        times["time/step_s"] = sum(self.seconds.values())
        self.totals, self.seconds = self.totals_now(), {}
        return times


def _sum(totals: Mapping[str, float], seconds: Mapping[str, float]) -> dict[str, float]:
    return {phase: totals.get(phase, 0.0) + seconds.get(phase, 0.0) for phase in {**totals, **seconds}}
