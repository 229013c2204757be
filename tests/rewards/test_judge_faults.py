"""A fifth of all judge calls fail, in every way that a server has: over real HTTP, through the whole arena."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from rewards.config import CallLimits
from tests.fakes.judge_server import FAULTS, JudgeServer
from tests.fakes.played import Scene, chat_judge, correlation, invented, play

SCENE = Scene()


@asynccontextmanager
async def server(**options: float) -> AsyncIterator[tuple[JudgeServer, str]]:
    """In this event loop; `tests/bench/judge_faults.py` has it in a process of its own."""
    judge = JudgeServer(**options)  # pyright: ignore[reportArgumentType]
    runner = web.AppRunner(judge.app(), access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield judge, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("max_attempts", "most_missing", "causes"),
    [(4, 24, set()), (1, 120, {"timeout", "rate_limit", "server_error", "connection", "bad_reply"})],
)
async def test_no_group_is_lost_and_no_verdict_invented(max_attempts: int, most_missing: int, causes: set[str]) -> None:
    """With retries little is missing; without, a fifth is (more on a busy machine), and the rewards still agree."""
    limits = CallLimits(max_concurrency=48, timeout_s=0.8, backoff_s=0.0, max_attempts=max_attempts)
    async with server() as (_, url):
        well = await play(SCENE, chat_judge(url), CallLimits())
    async with server(fault_share=0.2, hang_s=30.0) as (judge, url):
        ill = await play(SCENE, chat_judge(url), limits)
    assert set(judge.num_faults) == set(FAULTS)
    assert judge.num_faults.total() > 0.15 * judge.num_requests
    assert sum(score.num_failed for score in well) == 0
    assert invented(SCENE, well) == invented(SCENE, ill) == 0
    assert [score.num_scored for score in ill] == [SCENE.num_candidates] * SCENE.num_groups
    assert sum(score.num_calls for score in ill) == SCENE.num_calls
    assert 0 <= sum(score.num_failed for score in ill) <= most_missing
    assert causes <= {cause for score in ill for cause in score.failures}
    assert correlation(ill, well) > 0.97
