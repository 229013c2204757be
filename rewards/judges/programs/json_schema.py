"""How far an answer is JSON that a schema allows."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from rewards.errors import UserError
from rewards.program_config import JsonSchemaProgram
from rewards.types import Candidate, Prompt

MAX_ERRORS = 100
"""Counted at most."""


class JsonSchema:
    """Raises UserError for a schema that is none."""

    def __init__(self, config: JsonSchemaProgram):
        from jsonschema import validators
        from jsonschema.exceptions import SchemaError

        validator_class = validators.validator_for(config.schema_)
        try:
            validator_class.check_schema(config.schema_)
        except SchemaError as error:
            raise UserError(f"judge.by.schema: is no JSON Schema: {error.message[:200]}") from error
        self._validator: Any = validator_class(config.schema_)

    def measure(self, prompt: Prompt, candidate: Candidate) -> float:
        """1 / (1 + number of errors), 0 for what is no JSON. The text may stand in a code fence."""
        text = candidate.text.strip()
        if text.startswith("```") and text.endswith("```"):
            text = text.removeprefix("```").removesuffix("```").removeprefix("json")
        try:
            said = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return 0.0
        num_errors = sum(1 for _, _ in zip(self._validator.iter_errors(said), range(MAX_ERRORS), strict=False))
        return 1.0 / (1.0 + num_errors)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
