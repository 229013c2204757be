"""How close an answer's number is to the one in the prompt's field."""

from __future__ import annotations

import math
import re

from rewards.errors import UserError
from rewards.judges.references import reference_of
from rewards.program_config import NumberProgram
from rewards.types import Candidate, Prompt

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)")


class Number:
    def __init__(self, config: NumberProgram):
        self._config = config

    def measure(self, prompt: Prompt, candidate: Candidate) -> float:
        """1 / (1 + distance / tolerance), in (0, 1]; 0 for an answer without a number.

        Raises:
            UserError: the prompt's field is missing or holds no number.
        """
        config = self._config
        target = last_number(reference_of(prompt, config.reference_field))
        if target is None:
            raise UserError(f"judge.by.reference_field: prompt {prompt.id} has no number in {config.reference_field!r}")
        said = candidate.text
        if config.answer_field is not None:
            said = str(candidate.parsed.fields.get(config.answer_field, ""))
        number = last_number(said)
        return 0.0 if number is None else 1.0 / (1.0 + abs(number - target) / config.tolerance)


def last_number(text: str) -> float | None:
    """The last number of a text: `1,234.5`, `-3`, `2e-5`; None without a finite one."""
    found = [float(match[0].replace(",", "")) for match in _NUMBER.finditer(text)]
    return found[-1] if found and math.isfinite(found[-1]) else None
