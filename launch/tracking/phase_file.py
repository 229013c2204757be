"""phase.json: what a run does and since when, and after a quiet while what it waits for; also the last word of one
that was killed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from launch.run_dir import RunDir
from rl.events import Event, PhaseStarted, Progress, RunDone, Waiting


def utc_now() -> datetime:
    return datetime.now(UTC)


class PhaseFile:
    """Rewrites the file with every phase, for whoever looks from outside.

    Raises (in `handle`):
        RunStopped: the disk is full.
    """

    def __init__(self, run: RunDir, now: Callable[[], datetime] = utc_now):
        self._run, self._now = run, now
        self._phase: dict[str, Any] = {}
        self._is_waiting = False

    def handle(self, event: Event) -> None:
        match event:
            case PhaseStarted(step=step, phase=phase):
                self._enter({"step": step, "phase": phase})
            case Waiting(silent_s=silent_s, on=on):
                self._is_waiting = True
                self._run.save_phase(self._phase | {"silent_s": round(silent_s), "waiting_for": on})
            case Progress() if self._is_waiting:
                self._is_waiting = False
                self._run.save_phase(self._phase)
            case RunDone(summary=summary):
                self._enter({"step": summary["steps"], "phase": "done"})

    def close(self) -> None:
        pass

    def _enter(self, phase: dict[str, Any]) -> None:
        self._is_waiting = False
        self._phase = phase | {"since": self._now().isoformat(timespec="seconds")}
        self._run.save_phase(self._phase)
