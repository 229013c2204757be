"""metrics.jsonl: one row a step."""

from __future__ import annotations

from launch.run_dir import RunDir
from rl.events import Event, StepDone


class MetricsFile:
    """Writes every finished step into the run; keeps nothing in memory.

    Raises (in `handle`):
        RunStopped: the disk is full.
    """

    def __init__(self, run: RunDir):
        self._run = run

    def handle(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self._run.append_metrics(event.step, event.metrics)

    def close(self) -> None:
        pass
