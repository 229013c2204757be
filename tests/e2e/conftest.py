"""One Ray, one tiny model and one engine for the whole test session; whole runs are processes of their own.

At most 20 engines start in the whole suite, all of them here:

     4  `stage`: one for the session, three in its place after test_engine_faults.py has killed it three times
     2  `run`: a run with two engines and two ranks, undisturbed
     1  `job`: the same recipe with one of each as a Ray job, undisturbed
     5  test_killed_driver.py, one rank: killed three times, ended well with one engine replaced
     1  test_killed_driver.py, two ranks: killed
     5  test_soak.py: killed twice, with two engines replaced
     1  test_slate.py: warm start, F-GRPO, LoRA, stale rollouts and refills in one run
     1  test_pooling.py: reward models, two heads over one backbone that pools

test_eval.py plays on the stage's engine, and so do the whole runs of test_stops.py and those of test_killed_driver.py
whose judge is down and that SIGTERM ends: on_stage.py lends it to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray

from launch.run_dir import RunDir
from rewards.types import ParsedAnswer
from rollouts.config import EngineConfig
from rollouts.engine import EngineSpec
from rollouts.pool import EnginePool
from rollouts.tiny import build_tiny_model
from tests.e2e.ray_head import BIN, ray_head, submit, working_dir
from tests.e2e.whole_runs import RECIPE, only_run, settings, start

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


@pytest.fixture(scope="session")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Three steps with two engines and two learner ranks, under the eyes of a second judge; nothing is left behind."""
    storage, known = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("known") / "pairs.jsonl"
    known.write_text('{"prompt": "Sing.", "better": "aeiou", "worse": "tsk"}\n')
    options = [
        "rollouts.engines=2",
        "rl.learner.ranks=2",
        "evaluation.audit_judge={kind: python, target: 'tests.e2e.judges:fewer_vowels', verdict: hard, version: '1'}",
        "evaluation.audit_share=0.5",
        f"rewards.calibration={{file: {known}}}",
        "rewards.alarms=[{min_audit_agreement: 1.0}]",
    ]
    start(["train", str(RECIPE), *settings(tiny_model, storage, *options)])
    return only_run(storage)


@pytest.fixture(scope="session")
def exported(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "model"
    start(["export", str(run.path), "--step", "3", str(out)])
    return out


@dataclass(frozen=True)
class Job:
    """A run that was submitted, and how the same without the token ended."""

    run: RunDir
    code_without_token: int


@pytest.fixture(scope="session")
def job(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Three steps as a Ray job, from an exported model, which vLLM and the learner load like any other."""
    folder = tmp_path_factory.mktemp("job")
    storage = folder / "runs"
    command = [str(BIN / "podium"), "train", "recipes/tiny.yaml"]
    with ray_head(folder) as (address, env):
        submitted = working_dir(folder, exported, storage)
        done = submit(address, env, submitted, *command)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        refused = submit(address, env | {"RAY_AUTH_MODE": "disabled"}, submitted, *command, patience_s=0)
    return Job(only_run(storage), refused.returncode)
