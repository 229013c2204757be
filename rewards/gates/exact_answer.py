"""Is the answer the right one, as a field of the prompt has it?"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from decimal import Decimal

import regex

from rewards.gate_config import ExactAnswerGate, gate_name
from rewards.gates.finding import PASSED, Finding, field_of, text_of
from rewards.types import Candidate, Prompt

TIMEOUT_S = 0.5
"""Of the search for the answer in the text."""

_NUMBER = re.compile(r"(?=[-+]?\.?\d)[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_MAX_NUMBER = 40


class ExactAnswer:
    """Score: 0 or 1. Numbers are compared as numbers: 1,000 is 1000.0; all else by `normalized`."""

    def __init__(self, config: ExactAnswerGate) -> None:
        self.config = config
        self._extract = None if config.extract is None else regex.compile(config.extract)

    async def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        config, text = self.config, text_of(candidate, self.config.part)
        right = field_of(prompt, config.field, gate_name(config))
        if isinstance(text, Finding):
            return text
        if self._extract is not None:
            found = await asyncio.to_thread(self._find, text)
            if found is None:
                return Finding(0.0, f"no match of {config.extract!r}")
            text = found
        accepted = right.split(config.separator) if config.separator is not None else [right]
        if any(same_answer(text, answer) for answer in accepted):
            return PASSED
        return Finding(0.0, f"says {text.strip()[:60]!r}")

    def _find(self, text: str) -> str | None:
        assert self._extract is not None
        try:
            found = list(self._extract.finditer(text, timeout=TIMEOUT_S, concurrent=True))
        except TimeoutError:
            return None
        return found[-1][1 if self._extract.groups else 0] or "" if found else None


def same_answer(given: str, right: str) -> bool:
    """Equal as numbers, or equal once normalised; nothing equals a blank answer."""
    one, other = normalized(given), normalized(right)
    if not one:
        return False
    numbers = _number(one), _number(other)
    return one == other if None in numbers else numbers[0] == numbers[1]


def normalized(text: str) -> str:
    """NFKC, no case, runs of white space as one space, no white space and punctuation at the ends (signs stay)."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-").split())
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]) and text[start] not in "-+.":
        start += 1
    while end > start and _is_edge(text[end - 1]) and text[end - 1] != "%":
        end -= 1
    return text[start:end].strip()


def _is_edge(character: str) -> bool:
    return character.isspace() or unicodedata.category(character).startswith("P")


def _number(text: str) -> Decimal | None:
    if len(text) > _MAX_NUMBER or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text.replace(",", ""))
