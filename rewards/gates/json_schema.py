"""Is the answer JSON that fits a schema?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NoReturn

import regex

from rewards.gate_config import JsonSchemaGate
from rewards.gates.finding import PASSED, Finding, inside_fence, text_of
from rewards.types import Candidate, Prompt

MAX_CHARACTERS = 100_000
"""Longer answers fail unread."""

PATTERN_TIMEOUT_S = 0.5
"""Of one search for a `pattern` of the schema."""


class JsonSchema:
    """Score: 0 or 1. Numbers must be JSON's own: NaN and Infinity fail; so do a key that stands twice and nesting that
    Python cannot read. A `$ref` that leads out of the schema is never fetched. A `pattern` that takes too long fails.
    """

    def __init__(self, config: JsonSchemaGate) -> None:
        from jsonschema.validators import Draft202012Validator, extend
        from referencing import Registry

        self.config = config
        timed = extend(Draft202012Validator, {"pattern": _timed_pattern})
        self._validator = timed(config.rules, registry=Registry())

    async def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        text = text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        if len(text) > MAX_CHARACTERS:
            return Finding(0.0, f"more than {MAX_CHARACTERS} characters")
        return await asyncio.to_thread(self._look, text)

    def _look(self, text: str) -> Finding:
        try:
            value = json.loads(
                inside_fence(text) if self.config.fenced else text, parse_constant=_refuse, object_pairs_hook=_once
            )
            error = next(self._validator.iter_errors(value), None)
        except (ValueError, RecursionError) as problem:
            return Finding(0.0, f"not JSON: {problem}")
        if error is None:
            return PASSED
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        return Finding(0.0, f"${where}: {error.message[:200]}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _timed_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, str):
        return
    try:
        if regex.search(pattern, instance, timeout=PATTERN_TIMEOUT_S, concurrent=True) is None:
            yield ValidationError(f"{instance[:60]!r} does not match {pattern!r}")
    except TimeoutError:
        yield ValidationError(f"took longer than {PATTERN_TIMEOUT_S:g} s to search for {pattern!r}")
