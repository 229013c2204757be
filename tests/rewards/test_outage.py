"""A judge that is down is waited for; one that only fails now and then is not."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from rewards.arena import Arena
from rewards.config import CallLimits
from rewards.errors import JudgeFailure, RunStopped
from rewards.outage import IN_A_ROW, Outage
from rewards.types import GroupScore
from tests.rewards.test_arena import KEY, FakeJudge, add_all, config

DOWN = JudgeFailure("connection", "refused")


def test_a_row_of_failures_is_an_outage_and_one_reply_ends_it() -> None:
    outage = Outage("j", 60.0)
    for number in range(IN_A_ROW):
        assert not outage.is_down
        outage.failed(DOWN, float(number))
    assert outage.is_down
    outage.replied()
    assert not outage.is_down


def test_it_stops_the_run_after_its_time_with_one_line() -> None:
    outage = Outage("j", 60.0)
    for number in range(IN_A_ROW + 5):
        outage.failed(DOWN, 11.0 - IN_A_ROW + number)  # the twentieth at 10 s
    outage.failed(DOWN, 69.9)
    with pytest.raises(
        RunStopped, match=r"^judge j is down: no reply to 27 attempts in a row, in 60 s of asking \(last: connection"
    ) as stop:
        outage.failed(DOWN, 70.0)
    assert "\n" not in str(stop.value)
    assert "rewards.calls.down_after_s" in str(stop.value)


def test_a_pause_between_the_failures_before_it_was_down_is_no_outage() -> None:
    outage = Outage("j", 300.0)
    for number in range(IN_A_ROW):
        outage.failed(DOWN, 0.0 if number < 4 else 900.0)  # the last calls of a step, then the next step's first
    assert outage.is_down
    outage.failed(DOWN, 1199.0)
    with pytest.raises(RunStopped, match="in 300 s of asking"):
        outage.failed(DOWN, 1200.0)


async def test_time_in_which_nobody_asks_a_judge_that_is_down_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0

    async def wait(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    async def fail(takes_s: float) -> None:
        nonlocal now_s
        async with outage.door():
            now_s += takes_s
        outage.failed(DOWN, now_s)

    monkeypatch.setattr("rewards.outage.time.monotonic", lambda: now_s)
    monkeypatch.setattr("rewards.outage.asyncio.sleep", wait)
    outage = Outage("j", 60.0)
    for _ in range(IN_A_ROW):
        await fail(1.0)
    for _ in range(3):
        now_s += 900.0  # learning: nobody asks, once the pause is over
        await fail(18.0)
    with pytest.raises(RunStopped, match=r"in [78][0-9] s of asking"):
        await fail(6.0)
    for _ in range(2):  # whoever asks later finds that out with one attempt
        now_s += 900.0
        with pytest.raises(RunStopped, match=r"in [78][0-9] s of asking"):
            await fail(0.1)


def test_a_bad_reply_is_a_reply() -> None:
    outage = Outage("j", 60.0)
    for number in range(3 * IN_A_ROW):
        outage.failed(JudgeFailure("bad_reply", retryable=False) if number % 15 == 0 else DOWN, 100.0 * number)
    assert not outage.is_down


def test_without_a_time_nothing_is_ever_down() -> None:
    outage = Outage("j", None)
    for number in range(5 * IN_A_ROW):
        outage.failed(DOWN, 1e6 * number)
    assert not outage.is_down


async def score(judge: FakeJudge, **limits: object) -> GroupScore:
    arena = Arena(config(calls=CallLimits(backoff_s=0.001, max_attempts=2, **limits)), judge)  # pyright: ignore[reportArgumentType]
    try:
        await add_all(arena, 8)
        return (await arena.scores())[KEY]
    finally:
        await arena.stop()


def test_a_judge_that_comes_back_has_missed_nothing() -> None:
    numbers = itertools.count()

    async def compare(first: int, second: int) -> float:
        if 5 <= next(numbers) < 30:
            raise JudgeFailure("connection", "refused")
        return float(first < second)

    found = asyncio.run(score(FakeJudge(compare), down_after_s=60.0))
    assert found.num_calls == 56
    assert found.num_failed <= 2, "only what failed for good before it was clear that the judge is down"
    assert found.rewards == sorted(found.rewards, key=lambda reward: -(reward or 0.0))


def test_a_judge_that_stays_away_stops_the_run_and_leaves_no_task() -> None:
    async def compare(first: int, second: int) -> float:
        raise JudgeFailure("connection", "refused")

    async def play() -> int:
        with pytest.raises(RunStopped, match="judge fake is down"):
            await score(FakeJudge(compare), down_after_s=0.3)
        return len(asyncio.all_tasks()) - 1

    assert asyncio.run(play()) == 0


def test_a_judge_that_often_fails_loses_those_calls_as_ever() -> None:
    lots = random.Random(4)

    async def compare(first: int, second: int) -> float:
        if lots.random() < 0.5:
            raise JudgeFailure("timeout")
        return float(first < second)

    found = asyncio.run(score(FakeJudge(compare), down_after_s=60.0))
    assert 4 <= found.num_failed <= 28
