from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfDiskError, OutOfMemoryError

from rewards.errors import RunStopped, UserError
from rl.learner import Learner
from rl.ranks import LearnerRanks, _first_cause
from rollouts.tiny import build_tiny_model
from tests.rl.learner_data import make_groups, make_objective
from tests.rl.test_learner import UNEVEN, VOCAB, make_config

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

HERE = "tests.rl.test_ranks"


def process_of(learner: Learner) -> int:
    return os.getpid()


def environment_of(learner: Learner) -> tuple[str, str]:
    return os.environ["OMP_NUM_THREADS"], os.environ["MALLOC_MMAP_MAX_"]


def fail_on(learner: Learner, rank: int, how: str) -> None:
    """One rank fails; the others wait for it, as they would in a collective."""
    if learner.rank != rank:
        time.sleep(60)
    if how == "die":
        os._exit(1)
    if how == "stop":
        raise RunStopped("the tide is out")
    raise ZeroDivisionError("a bug on one rank")


@pytest.fixture(scope="module")
def cluster() -> Any:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class TakesWeights:
    """An engine's actor as far as a sync speaks to it; dies in the method of that name."""

    def __init__(self, dies_in: str = ""):
        self._dies_in = dies_in

    def init_weight_transfer(self, info: Any) -> None:
        self._live_through("init_weight_transfer")

    def start_weight_update(self, digesting: bool) -> None:
        self._live_through("start_weight_update")

    def update_weights(self, info: Any) -> None:
        self._live_through("update_weights")

    def finish_weight_update(self, version: int) -> None:
        self._live_through("finish_weight_update")

    def _live_through(self, method: str) -> None:
        if method == self._dies_in:
            os._exit(1)


async def start(
    model_dir: Path, *, zero_stage: int = 2, engine_handles: Callable[[], Sequence[Any]] = tuple
) -> LearnerRanks:
    config = make_config(ranks=2, zero_stage=zero_stage)
    ranks = LearnerRanks(config, device="cpu", engine_handles=engine_handles)
    await ranks.start(str(model_dir), objective=make_objective(), temperature=0.8, seed=0)
    return ranks


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"), head_dim=16)


@pytest.fixture
async def running(cluster: Any, model_dir: Path) -> AsyncIterator[LearnerRanks]:
    ranks = await start(model_dir)
    yield ranks
    await ranks.stop()


async def test_two_ranks_learn_save_and_load(running: LearnerRanks, model_dir: Path, tmp_path: Path) -> None:
    groups = make_groups(UNEVEN, vocab_size=VOCAB)
    assert await running.run(f"{HERE}:environment_of") == [("1", "0")] * 2
    before = await running.logprobs(groups)
    metrics = await running.step(groups)
    assert metrics["rl/grad_norm"] > 0
    after = await running.logprobs(groups)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    await running.save(tmp_path / "step_1", {"step": 1})
    second = await running.step(groups)
    assert await running.load(tmp_path / "step_1") == {"step": 1}
    again = await running.step(groups)
    assert again["rl/loss"] == second["rl/loss"]
    await running.export(tmp_path / "hf")
    assert (tmp_path / "hf" / "model.safetensors").exists()
    with pytest.raises(UserError, match="no checkpoint"):
        await running.load(tmp_path / "step_9")


async def test_a_full_object_store_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(value: Any) -> Any:
        raise OutOfDiskError("Local disk is full\nThe object cannot be created")

    monkeypatch.setattr("rl.ranks.ray.put", full)
    with pytest.raises(RunStopped, match=r"no room for the step's groups .*--resume") as caught:
        await LearnerRanks(make_config(), device="cpu").step([])
    assert "\n" not in str(caught.value)


async def test_a_rank_that_rays_memory_monitor_killed_is_named() -> None:
    error = _first_cause({0: ZeroDivisionError(), 1: OutOfMemoryError("Task was killed: low on memory.\nMore of it")})
    assert isinstance(error, RunStopped)
    assert str(error) == "learner rank 1 died (Task was killed: low on memory.); resume from the last checkpoint"


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("die", RunStopped, "learner rank 1 died"),
        ("stop", RunStopped, "the tide is out"),
        ("bug", ZeroDivisionError, "a bug on one rank"),
    ],
)
async def test_a_failing_rank_is_named_and_ends_the_others(
    running: LearnerRanks, how: str, kind: type[Exception], text: str
) -> None:
    processes = await running.run(f"{HERE}:process_of")
    with pytest.raises(kind, match=text):
        await running.run(f"{HERE}:fail_on", 1, how)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < deadline, "a rank outlived its failed neighbour"
        time.sleep(0.1)
    with pytest.raises(RunStopped, match="not running"):
        await running.step([])


async def test_ranks_outlive_the_engines_that_die_of_a_sync(cluster: Any, model_dir: Path) -> None:
    """Under ZeRO-3, whose ranks gather every weight together; the engines die before and after what they are sent."""
    engine: Any = ray.remote(TakesWeights).options(num_cpus=0)
    engines: list[Any] = []
    ranks = await start(model_dir, zero_stage=3, engine_handles=lambda: engines)
    try:
        processes = await ranks.run(f"{HERE}:process_of")
        for dies_in in ("init_weight_transfer", "update_weights"):
            engines[:] = [engine.remote(), engine.remote(dies_in)]
            with pytest.raises(RunStopped, match="weight sync to version 1 failed, engines hold a mixture") as caught:
                await ranks.sync(1, verify=False)
            assert "\n" not in str(caught.value)
        engines[:] = [engine.remote(), engine.remote()]
        assert (await ranks.sync(1, verify=False))["bytes"] > 0
        assert (await ranks.step(make_groups(UNEVEN, vocab_size=VOCAB)))["rl/grad_norm"] > 0
        assert await ranks.run(f"{HERE}:process_of") == processes
    finally:
        await ranks.stop()
