"""What the report says, read from a run directory; a run that is still going has less of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.health import run_health
from launch.run_dir import RunDir
from rl.events import PHASES

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Findings:
    """summary: summary.json, or the part of it that the rows so far give. games: the latest evaluation's rows."""

    name: str
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    finished: bool
    games: Sequence[Mapping[str, Any]]
    games_step: int | None

    def curve(self, metric: str) -> Points:
        """(step, value) of the rows that have a finite value."""
        return [(row["step"], row[metric]) for row in self.rows if metric in row and math.isfinite(row[metric])]


def read_findings(path: Path) -> Findings:
    """
    Raises:
        UserError: no run at `path`, or a damaged file in it.
    """
    run = RunDir.open(path)
    rows = run.metrics()
    summary = run.summary()
    steps = run.steps("evaluation")
    return Findings(
        name=run.path.name,
        recipe=run.recipe(),
        provenance=run.provenance(),
        rows=rows,
        summary=summary if summary is not None else _summary_so_far(rows),
        finished=summary is not None,
        games=run.load_evaluation(steps[-1]) if steps else [],
        games_step=steps[-1] if steps else None,
    )


def _summary_so_far(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = {phase: sum(row.get(f"time/{phase}_s", 0.0) for row in rows) for phase in PHASES}
    summary: dict[str, Any] = {
        "steps": rows[-1]["step"] if rows else 0,
        "judge_calls": round(sum(row.get("judge/num_calls", 0.0) for row in rows)),
        "seconds_by_phase": {phase: total for phase, total in seconds.items() if total > 0},
    }
    if health := run_health(rows):
        summary["judge_health"] = health
    played = [row for row in rows if {"heldout/win_rate", "heldout/ci95_low", "heldout/ci95_high"} <= row.keys()]
    if played:
        last = played[-1]
        summary["heldout"] = {
            "win_rate": last["heldout/win_rate"],
            "ci95": [last["heldout/ci95_low"], last["heldout/ci95_high"]],
        }
    return summary
