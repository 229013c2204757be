"""A judge for tests: real calls, no model. The answer with the larger share of vowels wins."""

from __future__ import annotations

import asyncio

from rewards.errors import JudgeFailure
from rewards.types import Candidate, Prompt

is_down = False
"""Set by tests/e2e/killer.py, in the driver's process."""


def vowel_share(text: str) -> float:
    return sum(letter in "aeiouAEIOU" for letter in text) / max(1, len(text))


async def more_vowels(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    await asyncio.sleep(0)
    if is_down:
        raise JudgeFailure("connection", "nobody answers")
    one, two = vowel_share(first.text), vowel_share(second.text)
    return 1.0 if one > two else 0.0 if one < two else 0.5


async def level_in_step_2(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    """More vowels win, but step 2's answers are all the same to it."""
    return 0.5 if first.id.startswith("step2-") else await more_vowels(prompt, first, second)


async def fewer_vowels(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    """A second judge that never agrees."""
    return 1.0 - await more_vowels(prompt, first, second)
