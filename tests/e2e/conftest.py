"""One Ray, one tiny model and one engine for the whole test session; whole runs are processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
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
    """A started pool of one engine and the loop that its tests run on."""

    pool: EnginePool
    loop: asyncio.AbstractEventLoop

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
    pool = EnginePool([spec], parse=lambda prompt, text: ParsedAnswer(), deadline_s=120.0)
    try:
        loop.run_until_complete(pool.start())
        yield Stage(pool, loop)
        loop.run_until_complete(pool.stop())
    finally:
        loop.close()
        ray.shutdown()
