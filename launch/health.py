"""Is the judge well? A step's figures from its groups, and a run's from its steps.

groups, scores --step_health--> judge/..., reward/..., each figure x with x_low and x_high --> a row of metrics.jsonl
rows of metrics.jsonl ----------run_health----> summary.json, report.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rewards.alarms import JudgeAlarm, raised
from rewards.diagnostics.bootstrap import estimate, ratio
from rewards.diagnostics.diagnose import diagnose
from rewards.ledger import spending
from rewards.types import GroupScore
from rollouts.types import Group, candidate_of

OF_REWARDS = ("length_correlation", "style_")
"""Figures about what the rewards follow; all others are about the judge."""

SIGNED = ("_correlation", "_kappa", "judge_alpha", "judge_kappa")
"""Marks of figures in [-1, 1]; the others are shares."""

COUNTED_BY = {
    "judge/audit_agreement": "judge/num_audited",
    "judge/audit_kappa": "judge/num_audited",
    "judge/calibration_accuracy": "judge/num_calibrated",
}
"""What a step counts in a run's figure; in those that are not named every step counts the same."""


RELIABILITY = "reward/reliability"


def step_health(groups: Sequence[Group], scores: Sequence[GroupScore], *, seed: int = 0) -> dict[str, float]:
    """Judge health of a step, as metrics."""
    texts = [["" if r is None else candidate_of(r).text for r in group.rollouts] for group in groups]
    lengths = [[0 if r is None else r.num_tokens for r in group.rollouts] for group in groups]
    figures = diagnose(scores, texts=texts, num_tokens=lengths, seed=seed) | spending(scores)
    return {f"{'reward' if name.startswith(OF_REWARDS) else 'judge'}/{name}": v for name, v in figures.items()}


def run_health(rows: Iterable[Mapping[str, Any]], *, seed: int = 0) -> dict[str, dict[str, float | int]]:
    """Each health figure over a run: its mean over the steps that have it, and an interval from drawing steps again.

    Args:
        rows: of metrics.jsonl. Health figures are those that have an interval there, and the reliability.
    """
    rows = list(rows)
    names = {name.removesuffix("_low") for row in rows for name in row if name.endswith("_low")}
    names |= {RELIABILITY for row in rows if RELIABILITY in row}
    health: dict[str, dict[str, float | int]] = {}
    for name in sorted(name for name in names if name.startswith(("judge/", "reward/"))):
        had = [(row[name], row.get(COUNTED_BY.get(name, ""), 1.0)) for row in rows if name in row]
        sums_G2 = np.array([[value * weight, weight] for value, weight in had], dtype=np.float64).reshape(-1, 2)
        lowest = -1.0 if any(mark in name for mark in SIGNED) else 0.0
        found = estimate(sums_G2, ratio, bounds=(lowest, 1.0), seed=seed)
        if found.value is not None:
            health[name] = {"value": found.value, "low": found.low, "high": found.high, "num_steps": found.num_groups}
    return health


def run_alarms(alarms: Iterable[JudgeAlarm], health: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What of a run's figures is beyond the thresholds that its steps were held to, a phrase per figure."""
    ends = {f"{name}_{end}": figure[end] for name, figure in health.items() for end in ("low", "high")}
    metrics = ends | {name: figure["value"] for name, figure in health.items()}
    return list(dict.fromkeys(phrase for alarm in alarms for phrase in raised(alarm, metrics)))


def health_totals(rows: Iterable[Mapping[str, Any]], alarms: Iterable[JudgeAlarm]) -> dict[str, Any]:
    """What summary.json says of the judge's health: every figure, and those beyond the recipe's thresholds."""
    health = run_health(rows)
    return {"judge_health": health, "judge_alarms": run_alarms(alarms, health)}
