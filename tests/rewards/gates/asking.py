"""Asks one gate about one answer."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from rewards.gate_config import GateConfig
from rewards.gates import build_gates
from rewards.types import AnyGate, Candidate, ParsedAnswer, Prompt, SoftGate

PROMPT = Prompt("p", "task", fields={"answer": "1,000", "tests": "t", "text": "the source"})


def hard(config: GateConfig, candidate: Candidate | str, prompt: Prompt = PROMPT) -> str | None:
    """The reason why the answer fails, or None."""
    (gate,) = build_gates([config])
    return asyncio.run(settled(gate, _candidate(candidate), prompt))


def soft(config: GateConfig, candidate: Candidate | str, prompt: Prompt = PROMPT) -> float:
    """The score of the same gate, made soft."""
    (gate,) = build_gates([config.model_copy(update={"soft": True})])
    return asyncio.run(settled(gate, _candidate(candidate), prompt))


async def settled(gate: AnyGate, candidate: Candidate, prompt: Prompt = PROMPT) -> Any:
    """What the gate says in the end."""
    said = gate.score(prompt, candidate) if isinstance(gate, SoftGate) else gate.check(prompt, candidate)
    return await said if inspect.isawaitable(said) else said


def _candidate(candidate: Candidate | str) -> Candidate:
    return candidate if isinstance(candidate, Candidate) else Candidate("c", candidate)


def with_parts(text: str = "", malformed: str | None = None, **parts: str) -> Candidate:
    return Candidate("c", text, parsed=ParsedAnswer(parts=parts, malformed=malformed))
