"""One Ray, one tiny model and one engine for the whole test session; whole runs are processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray

from rewards.types import ParsedAnswer
from rollouts.config import EngineConfig
from rollouts.engine import EngineSpec
from rollouts.pool import EnginePool
from rollouts.tiny import build_tiny_model

MAX_LEN = 512


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    build_tiny_model(directory, seed=0, dtype="float32")
    return directory


@dataclass
class Stage:
    """A started pool of one engine and the loop that its tests run on.

    renew: what brings an engine that replaces a dead one to the current weights; a test that kills sets it.
    """

    loop: asyncio.AbstractEventLoop
    pool: EnginePool = field(init=False)
    renew: Callable[[Any], Awaitable[None]] | None = None
    deaths: list[str] = field(default_factory=list)

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)


@pytest.fixture(scope="session")
def stage(tiny_model: Path) -> Iterator[Stage]:
    ray.init(address="local", include_dashboard=False, log_to_driver=False, object_store_memory=256 * 1024**2)
    loop = asyncio.new_event_loop()
    spec = EngineSpec(
        model=str(tiny_model),
        max_model_len=MAX_LEN,
        config=EngineConfig(kv_cache_gib=0.25, dtype="float32"),
        device="cpu",
        transfer="shm",
    )
    stage = Stage(loop)

    async def renew(handle: Any) -> None:
        assert stage.renew is not None, "an engine died in a test that kills none"
        await stage.renew(handle)

    stage.pool = EnginePool(
        [spec],
        parse=lambda prompt, text: ParsedAnswer(),
        deadline_s=120.0,
        max_replacements=3,
        renew=renew,
        on_replaced=lambda number, cause: stage.deaths.append(cause),
    )
    try:
        loop.run_until_complete(stage.pool.start())
        yield stage
        loop.run_until_complete(stage.pool.stop())
    finally:
        loop.close()
        ray.shutdown()
