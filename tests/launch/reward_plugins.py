"""Judges and scorers that reward recipes of the tests name."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from pathlib import Path

from rewards.errors import JudgeFailure
from rewards.types import Candidate, Prompt

ASKED: list[tuple[str, str]] = []


def longer(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    ASKED.append((first.text, second.text))
    return 0.5 + 0.5 * ((len(first.text) > len(second.text)) - (len(first.text) < len(second.text)))


def shorter(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    return 1.0 - longer(prompt, first, second)


def first_seat(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    return 1.0


def more_letters(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    return float(len(first.text) - len(second.text))


def knows_the_bridge(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    """By what is true, wherever it stands, and by nothing else."""
    facts = ("bridge is 317 m", "from Rome to Paris")
    ahead = sum((fact in first.text) - (fact in second.text) for fact in facts)
    return 0.5 + 0.5 * ((ahead > 0) - (ahead < 0))


def fails_for_x(prompt: Prompt, first: Candidate, second: Candidate) -> float | None:
    return None if "x" in (first.text, second.text) else longer(prompt, first, second)


async def slow(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    await asyncio.sleep(0.2)
    return longer(prompt, first, second)


MAY_SPEAK = threading.Event()


async def held_back(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    """Says nothing until a test lets it."""
    while not MAY_SPEAK.is_set():
        await asyncio.sleep(0.005)
    return longer(prompt, first, second)


async def stuck(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    await asyncio.Event().wait()
    return 0.5


def down(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    raise JudgeFailure("connection", "refused")


def bug(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    raise ZeroDivisionError("a bug")


def words(prompt: Prompt, candidate: Candidate) -> float:
    return float(len(candidate.text.split()))


_LOTS = itertools.cycle((1.0, 0.0, 0.0))


def coin(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    """Says something else every time it is asked the same."""
    return next(_LOTS)


async def waits(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    """For longer than any test; the file $STARTED says that it does."""
    Path(os.environ["STARTED"]).touch()
    await asyncio.sleep(600.0)
    return 0.5
