"""How far an answer is JSON that a schema allows."""

from __future__ import annotations

from rewards.json_schema import Schema
from rewards.program_config import JsonSchemaProgram
from rewards.types import Candidate, Prompt

MAX_ERRORS = 100
"""Counted at most."""


class JsonSchema:
    def __init__(self, config: JsonSchemaProgram):
        self._schema = Schema(config.schema_)

    def measure(self, prompt: Prompt, candidate: Candidate) -> float:
        """1 / (1 + number of errors), 0 for what is no JSON or cannot be held against the schema.

        The text may stand in a code fence.
        """
        text = candidate.text.strip()
        if text.startswith("```") and text.endswith("```"):
            text = text.removeprefix("```").removesuffix("```").removeprefix("json")
        try:
            return 1.0 / (1.0 + len(self._schema.errors(text, MAX_ERRORS)))
        except ValueError:
            return 0.0
