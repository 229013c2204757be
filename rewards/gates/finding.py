"""What a gate finds in an answer, and how it gets at what it reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from rewards.errors import UserError
from rewards.types import Candidate, Prompt

_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Finding:
    """score: in [0, 1], 1 = nothing to find fault with. reason: why a hard gate fails the answer; None = it passes."""

    score: float
    reason: str | None = None


PASSED = Finding(1.0)


class Look(Protocol):
    """One kind of gate: what it finds, whether the recipe makes it hard or soft."""

    def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding | Awaitable[Finding]: ...


def text_of(candidate: Candidate, part: str | None) -> str | Finding:
    """The text to look at; a Finding where the answer has no such part."""
    if part is None:
        return candidate.text
    if part not in candidate.parsed.parts:
        return Finding(0.0, f"has no part {part!r}")
    return candidate.parsed.parts[part]


def field_of(prompt: Prompt, field: str, gate: str) -> str:
    """Raises UserError where the prompt has no such field."""
    if field not in prompt.fields:
        near = difflib.get_close_matches(field, list(prompt.fields), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(prompt.fields) or 'none'}"
        raise UserError(f"gate {gate}: prompt {prompt.id} has no field {field!r}; {hint}")
    return prompt.fields[field]


def inside_fence(text: str) -> str:
    """What stands in the first Markdown fence; the whole text where there is none."""
    match = _FENCE.search(text)
    return match[1] if match else text
