"""Gates: cheap checks that run before any judge. One file per kind, its config in `rewards/gate_config.py`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rewards.gate_config import GateConfig, gate_name
from rewards.gates.command import Command
from rewards.gates.copy_ratio import CopyRatio
from rewards.gates.exact_answer import ExactAnswer
from rewards.gates.finding import Finding, Look
from rewards.gates.format import Format
from rewards.gates.json_schema import JsonSchema
from rewards.gates.language import LanguageOf
from rewards.gates.length import Length
from rewards.gates.pattern import Patterns
from rewards.gates.python import Python
from rewards.gates.repetition import Repetition
from rewards.types import AnyGate, Candidate, Prompt

LOOKS: Mapping[str, Callable[[Any], Look]] = MappingProxyType(
    {
        "length": Length,
        "language": LanguageOf,
        "format": Format,
        "json_schema": JsonSchema,
        "pattern": Patterns,
        "copy_ratio": CopyRatio,
        "repetition": Repetition,
        "exact_answer": ExactAnswer,
        "command": Command,
        "python": Python,
    }
)


@dataclass(frozen=True, slots=True)
class Hard:
    """A look that vetoes; implements `rewards.types.Gate`."""

    name: str
    look: Look

    def check(self, prompt: Prompt, candidate: Candidate) -> str | Awaitable[str | None] | None:
        found = self.look(prompt, candidate)
        return _reason(found) if inspect.isawaitable(found) else found.reason


@dataclass(frozen=True, slots=True)
class Soft:
    """A look that takes from the reward; implements `rewards.types.SoftGate`."""

    name: str
    look: Look
    weight: float

    def score(self, prompt: Prompt, candidate: Candidate) -> float | Awaitable[float]:
        found = self.look(prompt, candidate)
        return _score(found) if inspect.isawaitable(found) else found.score


def build_gates(configs: Sequence[GateConfig]) -> tuple[AnyGate, ...]:
    """Gates in the order of the recipe.

    Raises:
        UserError: a plug-in is at fault, or a command cannot be run under its limits here.
    """
    return tuple(_built(config) for config in configs)


def _built(config: GateConfig) -> AnyGate:
    look = LOOKS[config.kind](config)
    return Soft(gate_name(config), look, config.weight) if config.soft else Hard(gate_name(config), look)


async def _reason(found: Awaitable[Finding]) -> str | None:
    return (await found).reason


async def _score(found: Awaitable[Finding]) -> float:
    return (await found).score
