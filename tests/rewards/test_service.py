"""The cluster's limiter on a real Ray: two drivers share it, the dead lose their places, and it ends by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from rewards.config import CallLimits, RateLimits
from rewards.errors import UserError
from rewards.limiter import Limiter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CALLS = CallLimits(max_concurrency=2, limits=RateLimits(scope="cluster"))

DRIVER = """
import asyncio, os, sys
import ray
from rewards.config import CallLimits, RateLimits
from rewards.service import ClusterLimiter

async def main():
    calls = CallLimits(max_concurrency=2, limits=RateLimits(scope="cluster"))
    limiter = await ClusterLimiter.join("shared", calls)
    await limiter.take(0, lease_s=float(sys.argv[1]))
    print("taken", flush=True)
    os._exit(0)  # without giving it back, as by a kill

ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    import ray

    context = ray.init(
        address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 1024**2
    )
    try:
        yield cast(Any, context).address_info["gcs_address"]
    finally:
        ray.shutdown()


def other_driver(address: str, lease_s: float) -> None:
    environment = {**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(lease_s)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "taken" in done.stdout, done.stderr


def test_two_drivers_share_two_places_and_a_dead_one_loses_its_own(address: str) -> None:
    from rewards.service import ClusterLimiter

    async def play() -> list[int]:
        limiter = await ClusterLimiter.join("shared", CALLS)
        assert isinstance(limiter, Limiter)
        mine = await limiter.take(0, lease_s=60.0)
        await asyncio.to_thread(other_driver, address, 3.0)
        seen = [await limiter.at_work()]
        third = await asyncio.wait_for(limiter.take(0, lease_s=60.0), 30.0)  # once the dead one's time is over
        seen.append(await limiter.at_work())
        waiting = [asyncio.create_task(limiter.take(0, lease_s=600.0)) for _ in range(20)]
        await asyncio.sleep(0.2)
        limiter.give_back(mine, 0)
        for task in waiting:  # some queue, some have just been given their turn: none takes a place with it
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        limiter.give_back(third, 0)
        again = [await asyncio.wait_for(limiter.take(0, lease_s=60.0), 30.0) for _ in range(2)]
        seen.append(await limiter.at_work())
        for lease in again:
            limiter.give_back(lease, 0)
        for _ in range(300):  # messages may overtake each other
            if not await limiter.at_work():
                return seen
            await asyncio.sleep(0.1)
        raise AssertionError("places that were given back are still taken")

    assert asyncio.run(play()) == [2, 2, 2]


def test_other_limits_under_the_same_name_are_refused(address: str) -> None:
    from rewards.service import ClusterLimiter

    async def play() -> None:
        await ClusterLimiter.join("refused", CALLS)
        with pytest.raises(UserError, match=r"share 'refused' with calls\.max_concurrency = 2, .*another limits\.name"):
            await ClusterLimiter.join("refused", CallLimits(max_concurrency=3))

    asyncio.run(play())


def test_a_limiter_that_has_ended_is_started_again(address: str) -> None:
    import ray
    from ray.exceptions import RayActorError

    from rewards import service

    async def play() -> int:
        limiter = await service.ClusterLimiter.join("again", CALLS)
        old = await limiter.take(0, lease_s=60.0)
        actor: Any = ray.get_actor(service.ACTOR, namespace=service.NAMESPACE)
        ray.kill(actor)
        with suppress(RayActorError):
            while True:  # it answers until it is dead
                await actor.at_work.remote("again")
        new = await limiter.take(0, lease_s=60.0)
        limiter.give_back(old, 0)  # of an actor that is gone: no harm done
        at_work = await limiter.at_work()
        limiter.give_back(new, 0)
        return at_work

    assert asyncio.run(play()) == 1


def test_it_ends_when_nobody_comes(address: str) -> None:
    import ray
    from ray.exceptions import RayActorError

    from rewards import service

    ray.kill(ray.get_actor(service.ACTOR, namespace=service.NAMESPACE))
    for _ in range(100):
        try:
            service._actor(idle_s=0.2)
            break
        except RayActorError:
            continue

    assert asyncio.run(is_gone())


async def is_gone() -> bool:
    import ray

    from rewards import service

    for _ in range(300):
        try:
            ray.get_actor(service.ACTOR, namespace=service.NAMESPACE)
        except ValueError:
            return True
        await asyncio.sleep(0.1)
    return False
