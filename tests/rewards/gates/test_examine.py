"""All gates on one answer: vetoes, soft scores, and what is spared."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from rewards.errors import UserError
from rewards.gates.examine import Examination, examine
from rewards.types import AnyGate, Candidate, Prompt

PROMPT, CANDIDATE = Prompt("p", "t"), Candidate("c", "text")


class Quick:
    def __init__(self, name: str, reason: str | None) -> None:
        self.name, self._reason = name, reason

    def check(self, prompt: Prompt, candidate: Candidate) -> str | None:
        return self._reason


class Slow:
    def __init__(self, name: str, reason: str | BaseException | None) -> None:
        self.name, self._reason, self.asked = name, reason, 0

    async def check(self, prompt: Prompt, candidate: Candidate) -> str | None:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self._reason, BaseException):
            raise self._reason
        return self._reason


class Scores:
    weight = 1.0

    def __init__(self, name: str, score: float) -> None:
        self.name, self._score = name, score

    def score(self, prompt: Prompt, candidate: Candidate) -> float:
        return self._score


class SlowScores(Scores):
    async def score(self, prompt: Prompt, candidate: Candidate) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        await asyncio.sleep(0)
        return self._score


async def asked(*gates: AnyGate) -> Examination:
    found = examine(gates, PROMPT, CANDIDATE)
    return found if isinstance(found, Examination) else await found


async def test_nothing_waits_where_no_gate_waits() -> None:
    assert examine([], PROMPT, CANDIDATE) == Examination()
    found = examine([Quick("a", None), Quick("b", "no"), Scores("s", 0.5), Quick("c", "no")], PROMPT, CANDIDATE)
    assert found == Examination(("b", "c"), {"s": 0.5})


async def test_those_that_wait_run_side_by_side() -> None:
    found = await asked(Slow("a", "no"), Quick("b", None), SlowScores("s", 0.25), Slow("c", None), Scores("t", 1.0))
    assert found == Examination(("a",), {"s": 0.25, "t": 1.0})


async def test_a_veto_spares_those_that_wait() -> None:
    slow = Slow("slow", "no")
    assert await asked(slow, SlowScores("s", 0.0), Quick("quick", "no"), Scores("t", 0.5)) == Examination(
        ("quick",), {"t": 0.5}
    )
    assert slow.asked == 0


async def test_what_a_gate_raises_surfaces_and_leaves_nothing_running() -> None:
    with pytest.raises(UserError, match="broken"):
        await asked(Slow("a", UserError("broken")), Slow("b", None))

    class Raises:
        name = "raises"

        def check(self, prompt: Prompt, candidate: Candidate) -> Any:
            raise KeyError("bug")

    with pytest.raises(KeyError):
        examine([Slow("a", None), Raises()], PROMPT, CANDIDATE)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_slow_gate_is_recognised_by_what_it_returns() -> None:
    found = examine([Slow("a", None)], PROMPT, CANDIDATE)
    assert inspect.iscoroutine(found)
    asyncio.run(found)
