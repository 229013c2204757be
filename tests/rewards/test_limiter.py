"""The limiter: rates hold over any window, estimates are corrected, turns come in order, nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.chaos import Chaos
from launch.chaos_judge import faulty
from rewards.arena import Arena
from rewards.calling import Caller
from rewards.config import CallLimits
from rewards.endpoint_config import EndpointConfig
from rewards.judge_config import ChatJudge
from rewards.judges import build_judge
from rewards.judges.panel import Member, Panel, Seat
from rewards.limiter import BURST_S, Bucket, Lease, LocalLimiter, Throttle
from rewards.limiter_queues import LimiterQueues, Rates
from rewards.types import Candidate, Judge, Prompt
from tests.fakes.completers import FakeCompleter, longer_is_better
from tests.rewards.rubrics.test_rubric_judge import judge_of, writes_then_compares
from tests.rewards.test_arena import KEY, FakeJudge, add_all, config


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = Bucket(60.0, 100.0)  # one a second, five at once
    for _ in range(int(BURST_S)):
        assert bucket.wait_s(1.0, 100.0) == 0.0
        bucket.take(1.0)
    assert bucket.wait_s(1.0, 100.0) == pytest.approx(1.0)
    assert bucket.wait_s(2.0, 100.5) == pytest.approx(1.5)
    assert bucket.wait_s(1.0, 1000.0) == 0.0


def test_what_is_larger_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt() -> None:
    bucket = Bucket(60.0, 0.0)
    assert bucket.wait_s(65.0, 0.0) == 0.0
    bucket.take(65.0)
    assert bucket.wait_s(1.0, 0.0) == pytest.approx(61.0)


@given(st.integers(1, 600), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60))
def test_a_minute_never_sees_more_than_its_rate_and_one_burst(per_minute: int, gaps: list[float]) -> None:
    throttle, now_s, starts = Throttle(requests_per_minute=per_minute), 0.0, []
    for gap in gaps:
        now_s += gap
        wait_s = throttle.wait_s(0, now_s)
        assert wait_s is not None
        now_s += wait_s
        throttle.enter(0)
        starts.append(now_s)
    most = per_minute + max(1.0, per_minute / 60.0 * BURST_S)
    for start in starts:
        assert sum(start <= other < start + 60.0 for other in starts) <= most + 1e-6


def test_an_estimate_that_was_too_high_is_given_back_and_one_too_low_is_taken() -> None:
    throttle = Throttle(tokens_per_minute=6000)  # 100 a second, 500 at once
    throttle.enter(500)
    assert throttle.wait_s(100, 0.0) == pytest.approx(1.0)
    throttle.leave(500, 200)
    assert throttle.wait_s(100, 0.0) == 0.0
    throttle.enter(100)
    throttle.leave(100, 700)
    assert throttle.wait_s(100, 0.0) == pytest.approx(5.0)
    throttle.enter(0)
    throttle.leave(0, None)  # nobody knows what it took
    assert throttle.wait_s(100, 0.0) == pytest.approx(5.0)


def test_a_lease_may_be_for_several_requests_and_for_more_than_was_known() -> None:
    throttle = Throttle(requests_per_minute=60)  # one a second, five at once
    throttle.enter(0, num_requests=4)
    assert throttle.wait_s(0, 0.0, num_requests=4) == pytest.approx(3.0)
    throttle.leave(0, 0, more_requests=2)
    assert throttle.wait_s(0, 0.0, num_requests=4) == pytest.approx(5.0)
    assert throttle.wait_s(0, 5.0, num_requests=4) == 0.0
    throttle.enter(0, num_requests=64)  # more than fit in goes when it is full, and is made up for
    assert throttle.wait_s(0, 5.0, num_requests=64) == pytest.approx(65.0)


async def test_turns_come_in_order_and_places_are_bounded() -> None:
    limiter, started = LocalLimiter(2), []

    async def call(number: int) -> None:
        lease = await limiter.take(0, lease_s=1.0)
        started.append(number)
        assert limiter.at_work <= 2
        await asyncio.sleep(0)
        limiter.give_back(lease, 0)

    await asyncio.gather(*map(call, range(20)))
    assert started == list(range(20))
    assert limiter.at_work == 0


async def test_whoever_is_cancelled_leaves_the_queue_and_gives_back_what_it_was_given() -> None:
    limiter = LocalLimiter(1)
    held = await limiter.take(0, lease_s=1.0)
    waiting = [asyncio.create_task(limiter.take(0, lease_s=1.0)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    limiter.give_back(held, 0)  # the second is given its turn ...
    waiting[1].cancel()  # ... and goes before it knows
    third = await waiting[2]
    assert limiter.at_work == 1
    limiter.give_back(third, 0)
    assert limiter.at_work == 0
    assert all(task.cancelled() for task in waiting[:2])


async def test_the_first_in_line_waits_for_the_clock() -> None:
    limiter = LocalLimiter(requests_per_minute=6000)  # 500 at once, then one in 10 ms
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    for _ in range(510):
        limiter.give_back(await limiter.take(0, lease_s=1.0), 0)
    assert loop.time() - start_s >= 0.09


async def test_a_calls_latency_is_the_judges_and_not_the_queues() -> None:
    async def compare(first: int, second: int) -> float:
        await asyncio.sleep(0.01)
        return float(first < second)

    arena = Arena(config(calls=CallLimits(max_concurrency=1)), FakeJudge(compare))
    started_s = time.perf_counter()
    await add_all(arena, 4)
    calls = [call for match in (await arena.scores())[KEY].matches for call in match.calls]
    wall_s = time.perf_counter() - started_s
    assert len(calls) == 12
    assert sum(call.verdict.latency_s for call in calls) <= wall_s, "one at a time: no two can overlap"


# --- requests of a call -------------------------------------------------------------------------------------------

WARM = EndpointConfig(base_url="http://judge/v1", model="m", temperature=1.0)


async def num_started(judge: Judge, completer: FakeCompleter, prompts: Sequence[Prompt]) -> int:
    """Requests that are sent in the first moment of a rate of 120 a minute, 10 of them at once."""
    limiter = LocalLimiter(10, requests_per_minute=120, clock=lambda: 0.0)
    caller = Caller(judge, CallLimits(), limiter)
    first, second = Candidate("0", "one"), Candidate("1", "three")

    async def one_after_the_other() -> None:
        for number, prompt in enumerate(prompts):
            await caller.call(prompt, (first, second), (0, 1), seed=number)

    calling = asyncio.create_task(one_after_the_other())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert not calling.done()
    calling.cancel()
    await asyncio.wait({calling})
    return len(completer.asked)


@pytest.mark.parametrize(("votes", "sent"), [(1, 10), (4, 8), (64, 64)])
@pytest.mark.parametrize("wrapped", ["alone", "in a panel", "behind faults"])
async def test_every_vote_is_a_request(votes: int, sent: int, wrapped: str) -> None:
    completer = FakeCompleter(longer_is_better)
    judge = build_judge(ChatJudge(kind="chat", endpoint=WARM, votes=votes), completer=completer)
    if wrapped == "in a panel":
        judge = Panel([Seat(Member(judge, "one"))])
    elif wrapped == "behind faults":
        judge = faulty(judge, Chaos({}, 0))
    assert await num_started(judge, completer, [Prompt("p", "Write.")] * 20) == sent


async def test_so_is_the_one_that_writes_criteria() -> None:
    judge, completer = judge_of(writes_then_compares, criteria_from="prompt")
    assert await num_started(judge, completer, [Prompt(str(number), f"{number}") for number in range(20)]) == 10


async def test_tokens_of_a_first_call_are_expected_for_every_vote() -> None:
    completer = FakeCompleter(longer_is_better)
    judge = build_judge(ChatJudge(kind="chat", endpoint=WARM, votes=8), completer=completer)
    taken: list[int] = []

    class Notes(LocalLimiter):
        async def take(self, num_tokens: int, **keys: Any) -> Lease:
            taken.append(num_tokens)
            return await super().take(num_tokens, **keys)

    shown = Candidate("0", "x" * 40), Candidate("1", "y" * 60)
    caller = Caller(judge, CallLimits(), Notes())
    for seed in range(2):
        await caller.call(Prompt("p", ""), shown, (0, 1), seed=seed)
    assert taken == [8 * 25, 8 * 12]  # a token for four characters, then what it took


# --- queues by name, for callers that may die ---------------------------------------------------------------------

RATES: Rates = (1, None, None)


async def test_a_lease_that_does_not_come_back_is_taken_back() -> None:
    queues = LimiterQueues()
    await queues.take(1, "j", RATES, 0, 0.05)
    await asyncio.wait_for(queues.take(2, "j", RATES, 0, 60.0), 5.0)
    queues.give_back(1, 10)  # late: nobody's place is freed twice
    assert queues.at_work("j") == 1
    queues.give_back(2, 0)
    assert queues.at_work("j") == 0


async def test_names_do_not_meet_and_the_first_sets_the_rates() -> None:
    queues = LimiterQueues()
    await queues.take(1, "a", RATES, 0, 60.0)
    await asyncio.wait_for(queues.take(2, "b", RATES, 0, 60.0), 5.0)
    assert queues.rates("a", (7, 8, 9)) == RATES
    assert queues.rates("c", (7, 8, 9)) == (7, 8, 9)


async def test_it_is_idle_only_without_leases_and_waiting() -> None:
    queues = LimiterQueues()
    await queues.take(1, "j", RATES, 0, 60.0)
    idle = asyncio.create_task(queues.idle(0.02))
    await asyncio.sleep(0.06)
    assert not idle.done()
    queues.give_back(1, 0)
    await asyncio.wait_for(idle, 5.0)


@pytest.mark.parametrize("moment", ["before it came", "while it queues", "as its turn comes", "with the lease out"])
async def test_a_ticket_may_be_withdrawn_at_any_moment(moment: str) -> None:
    queues = LimiterQueues()
    await queues.take(1, "j", RATES, 0, 60.0)
    if moment == "before it came":
        queues.withdraw(2)
    gone = asyncio.create_task(queues.take(2, "j", RATES, 0, 60.0))
    await asyncio.sleep(0)
    if moment == "while it queues":
        await asyncio.sleep(0)
        queues.withdraw(2)
    queues.give_back(1, 0)
    if moment == "as its turn comes":
        queues.withdraw(2)
    await asyncio.wait({gone}, timeout=5.0)
    if moment == "with the lease out":
        queues.withdraw(2)
    assert gone.cancelled() == (moment != "with the lease out")
    await asyncio.wait_for(queues.take(3, "j", RATES, 0, 60.0), 5.0)
    assert queues.at_work("j") == 1
