"""Gates of a user's own."""

from __future__ import annotations

import asyncio

from rewards.types import Candidate, Prompt


def has_letters(prompt: Prompt, candidate: Candidate) -> bool:
    return any(c.isalpha() for c in candidate.text)


async def share_of_letters(prompt: Prompt, candidate: Candidate) -> float:
    await asyncio.sleep(0)
    return sum(c.isalpha() for c in candidate.text) / max(1, len(candidate.text))


def two(prompt: Prompt, candidate: Candidate) -> float:
    return 2.0


def one_argument(candidate: Candidate) -> float:
    return 1.0


NO_FUNCTION = 3
