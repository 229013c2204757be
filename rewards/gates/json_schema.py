"""Is the answer JSON that fits a schema?"""

from __future__ import annotations

import asyncio

from rewards.gate_config import JsonSchemaGate
from rewards.gates.finding import PASSED, Finding, inside_fence, text_of
from rewards.json_schema import Schema
from rewards.types import Candidate, Prompt

MAX_CHARACTERS = 100_000
"""Longer answers fail unread."""


class JsonSchema:
    """Score: 0 or 1. What cannot be held against the schema fails (`rewards/json_schema.py`)."""

    def __init__(self, config: JsonSchemaGate) -> None:
        self.config = config
        self._schema = Schema(config.rules)

    async def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        text = text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        if len(text) > MAX_CHARACTERS:
            return Finding(0.0, f"more than {MAX_CHARACTERS} characters")
        return await asyncio.to_thread(self._look, text)

    def _look(self, text: str) -> Finding:
        try:
            errors = self._schema.errors(inside_fence(text) if self.config.fenced else text, 1)
        except ValueError as problem:
            return Finding(0.0, str(problem))
        if not errors:
            return PASSED
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in errors[0].absolute_path)
        return Finding(0.0, f"${where}: {errors[0].message[:200]}")
