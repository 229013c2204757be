"""Measures of one answer without a model: one file each, larger is better, deterministic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from rewards.judges.programs.json_schema import JsonSchema
from rewards.judges.programs.length import Length
from rewards.judges.programs.number import Number
from rewards.judges.programs.ranking import RankingMetric
from rewards.judges.programs.regex import Regex
from rewards.types import Candidate, Prompt


class Measure(Protocol):
    def measure(self, prompt: Prompt, candidate: Candidate) -> float: ...


PROGRAMS: Mapping[str, Callable[[Any], Measure]] = MappingProxyType(
    {"length": Length, "regex": Regex, "number": Number, "json_schema": JsonSchema, "ranking": RankingMetric}
)
