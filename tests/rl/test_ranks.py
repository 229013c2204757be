from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
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


async def start(model_dir: Path, **learner: Any) -> LearnerRanks:
    ranks = LearnerRanks(make_config(ranks=2, zero_stage=2, **learner), device="cpu")
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
