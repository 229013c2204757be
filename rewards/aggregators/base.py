"""What every aggregator shares: match logs become tables of verdicts, and the share of circular triads is added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rewards.aggregators.triads import circular_triad_rate
from rewards.aggregators.votes import IntArray, VerdictTable, verdict_table
from rewards.types import MatchLog, Prior, Strengths


class TableAggregator(ABC):
    """Fits tables of verdicts. `min_verdicts`: a candidate with fewer is unscored; its verdicts still count."""

    def __init__(self, *, min_verdicts: int = 1, judge_weights: Mapping[str, float] | None = None) -> None:
        self._min_verdicts = min_verdicts
        self._judge_weights = judge_weights or {}

    def fit(self, logs: Sequence[MatchLog], prior: Prior | None = None) -> tuple[list[Strengths], Prior]:
        """Scores a batch of groups. `prior=None` means the documented default."""
        return self.fit_tables([verdict_table(log, self._judge_weights) for log in logs], prior)

    def fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None = None) -> tuple[list[Strengths], Prior]:
        """The same from tables, which need no object per verdict: a million rows fit in memory and time."""
        fitted, prior = self._fit_tables(tables, prior)
        triads = [circular_triad_rate(table) for table in tables]
        return [replace(one, circular_triad_rate=rate) for one, rate in zip(fitted, triads, strict=True)], prior

    @abstractmethod
    def _fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None) -> tuple[list[Strengths], Prior]: ...


def in_slots(num_candidates: int, slots: IntArray, values: np.ndarray) -> list[float | None]:
    """One entry per candidate: `values` at `slots`, None elsewhere."""
    entries: list[float | None] = [None] * num_candidates
    for slot, value in zip(slots.tolist(), values.tolist(), strict=True):
        entries[slot] = value
    return entries
