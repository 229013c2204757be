"""Killers: vLLM's core and its worker in the middle of generation, the actor in a sync; and one death too many.

Runs after test_engine.py on the same engine (files run in the order of their names) and starts three more.
"""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from launch.watchdog import Watchdog, beside
from recipes.schema import PhaseDeadlines, WatchdogConfig
from rewards.errors import RunStopped
from rewards.types import Candidate, GroupKey, GroupScore, Prompt
from rl.config import LearnerConfig, OptimizerConfig, RLConfig
from rl.events import Event, PhaseStarted
from rl.learner import Learner
from rl.ranks import LearnerRanks
from rl.weights import EngineClient, WeightSender
from rollouts.types import GroupRequest, Rollout
from tests.e2e.conftest import Stage
from tests.e2e.test_engine import TOLERANCE, learner_logprobs, request, sample
from tests.rl.learner_data import make_groups, make_objective

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


class Recorder:
    """A sink that notes what is pushed into it, and lets a test wait for a group's end."""

    def __init__(self) -> None:
        self.added: list[tuple[GroupKey, int]] = []
        self.closed: dict[str, asyncio.Event] = {}

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
        self.closed.setdefault(key.group_id, asyncio.Event())

    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None:
        self.added.append((key, index))

    async def close(self, key: GroupKey) -> None:
        self.closed[key.group_id].set()

    async def scores(self) -> dict[GroupKey, GroupScore]:
        return {}


@pytest.fixture(scope="module")
def moved_model(tiny_model: Path) -> Any:
    """A model that is not the one on disk: an engine that was replaced without its weights would be found out."""
    model = copy.deepcopy(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def victim(pids: dict[str, int], who: str) -> int:
    """The process id of vLLM's core or of its worker."""
    (pid,) = [pid for name, pid in pids.items() if who in name]
    return pid


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_hanging_worker_is_named_with_what_waits_for_it_and_stops_the_run(stage: Stage, tmp_path: Path) -> None:
    """The watchdog's action `stop`; the worker may go on afterwards, so no engine is lost."""
    pool = stage.pool
    (worker,) = [pid for name, pid in pool.processes().items() if "-worker-" in name]
    notes: list[Event] = []

    class Sink:
        def handle(self, event: Event) -> None:
            notes.append(event)

        def close(self) -> None: ...

    watchdog = Watchdog(
        WatchdogConfig(deadline_s=600, phases=PhaseDeadlines(sample=2)),
        Sink(),
        tmp_path,
        processes=pool.processes,
        waiting=pool.unfinished,
        kill_engines=pool.kill_engines,
    )

    async def sample_and_hang() -> list[Rollout | None]:
        watchdog.handle(PhaseStarted(7, "sample", 0.0))
        sampling = asyncio.create_task(pool.sample([request("hang", max_tokens=400)]))

        async def work() -> None:
            await asyncio.shield(sampling)

        await asyncio.sleep(0.2)
        os.kill(worker, signal.SIGSTOP)
        try:
            expected = (
                r"step 7, phase sample: no sign of life for \d+ s, waiting for rollout hang#0/0, .*; stacks are in"
            )
            with pytest.raises(RunStopped, match=expected) as caught:
                await beside(work(), watchdog.watch())
            assert "\n" not in str(caught.value)
        finally:
            os.kill(worker, signal.SIGCONT)
        (group,) = await sampling
        return list(group.rollouts)

    assert None not in stage.run(sample_and_hang())
    (folder,) = (tmp_path / "stacks").iterdir()
    assert "_sample_rollout" in (folder / "driver.txt").read_text()
    for name in pool.processes():
        if any(role in name for role in ("actor", "core", "worker")):
            assert "Thread" in (folder / f"{name}.txt").read_text()


@pytest.mark.parametrize("who", ["Worker", "EngineCore"])
def test_a_killed_engine_is_replaced_and_only_unfinished_rollouts_are_sampled_again(
    stage: Stage, moved_model: Any, who: str
) -> None:
    sender = WeightSender(moved_model, dtype=torch.float32, backend="shm", rank=0)
    version = 100

    async def renew(handle: Any) -> None:
        await asyncio.to_thread(sender.send, [handle], version, verify=True)

    stage.renew = renew
    stage.run(renew(stage.pool.handles[0]))
    sink, started, deaths = Recorder(), stage.pool.stats, len(stage.deaths)

    async def sample_and_kill() -> tuple[list[Rollout | None], list[Rollout | None], Any]:
        (handle,) = stage.pool.handles
        left = await handle.footprint.remote()
        pids = await handle.pids.remote()
        short, long = request(f"short {who}", max_tokens=2), request(f"long {who}", max_tokens=400)
        requests: list[GroupRequest] = [short, long]
        sampling = asyncio.create_task(stage.pool.sample(requests, sink))
        while not sink.closed or not sink.closed[short.key.group_id].is_set():
            await asyncio.sleep(0.01)
        assert not sampling.done()
        os.kill(victim(pids, who), signal.SIGKILL)
        groups = await sampling
        return list(groups[0].rollouts), list(groups[1].rollouts), left

    try:
        short, long, left = stage.run(sample_and_kill())
    finally:
        sender.close()
        stage.renew = None
    assert len(stage.deaths) == deaths + 1
    # Nobody is lost, nobody came twice, and what was finished was not sampled again.
    assert sorted(sink.added) == sorted({(one.key, one.index) for one in (*short, *long) if one is not None})
    assert len(sink.added) == 8
    assert stage.pool.stats.rollouts_finished == started.rollouts_finished + 8
    assert stage.pool.stats.rollouts_lost == started.rollouts_lost
    for rollout in (*short, *long):
        assert rollout is not None
        assert {span.version for span in rollout.versions} == {version}
        np.testing.assert_allclose(rollout.logprobs, learner_logprobs(moved_model, rollout), atol=TOLERANCE)
    assert_gone(left)


def test_an_actor_killed_in_a_sync_is_replaced_by_the_ranks_that_it_broke_off(
    stage: Stage, tiny_model: Path, tmp_path: Path
) -> None:
    """What the trainer does then, while the engine has rollouts to sample: these are sampled again, too."""
    learner = LearnerConfig(dtype="float32", cpu_threads=1)
    config = RLConfig(num_steps=2, learner=learner, optimizer=OptimizerConfig(lr=1e-2))
    ranks = LearnerRanks(config, device="cpu", engine_handles=lambda: stage.pool.handles, wire_dtype="float32")
    deaths = len(stage.deaths)

    async def sync_and_kill() -> tuple[list[Rollout | None], Any]:
        await ranks.start(str(tiny_model), objective=make_objective(), temperature=1.0, seed=0)
        stage.renew = ranks.renew
        await ranks.sync(200, verify=True)
        await ranks.step(make_groups([(4, [6, 6])], vocab_size=256))
        (handle,) = stage.pool.handles
        left = await handle.footprint.remote()
        sink, short = Recorder(), request("short", max_tokens=2)
        sampling = asyncio.create_task(stage.pool.sample([short, request("long", max_tokens=400)], sink))
        while not sink.closed or not sink.closed[short.key.group_id].is_set():
            await asyncio.sleep(0.01)
        assert not sampling.done()
        await ranks.run("tests.e2e.test_engine_faults:kill_in_update", (await handle.pids.remote())["engine"])
        with pytest.raises(RunStopped, match="weight sync to version 201 failed") as caught:
            await ranks.sync(201, verify=True)
        assert "\n" not in str(caught.value)
        assert await stage.pool.heal(everyone=True) == 1
        await ranks.sync(201, verify=True)
        _, group = await sampling
        await ranks.export(tmp_path / "hf")
        return list(group.rollouts), left

    try:
        rollouts, left = stage.run(sync_and_kill())
    finally:
        stage.renew = None
        stage.run(ranks.stop())
    assert len(stage.deaths) == deaths + 1
    moved = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    for rollout in rollouts:
        assert rollout is not None
        assert {span.version for span in rollout.versions} == {201}
        np.testing.assert_allclose(rollout.logprobs, learner_logprobs(moved, rollout), atol=TOLERANCE)
    assert_gone(left)


def kill_in_update(learner: Learner, pid: int) -> None:
    """In the rank: the next sync's engine dies between the start of the update and its bytes."""
    update = EngineClient.update_weights

    def fatal(self: EngineClient, info: Any) -> None:
        EngineClient.update_weights = update  # type: ignore[method-assign]
        os.kill(pid, signal.SIGKILL)
        update(self, info)

    EngineClient.update_weights = fatal  # type: ignore[method-assign]


def assert_gone(left: Any) -> None:
    """Nothing of a dead engine's footprint is there any more."""
    deadline = time.monotonic() + 30
    while not all(gone(pid) for pid in left.pids):
        assert time.monotonic() < deadline, "a process of the dead engine is still there"
        time.sleep(0.1)
    while any(Path(name).exists() for name in left.shared_memory):
        assert time.monotonic() < deadline, "shared memory of the dead engine is still there"
        time.sleep(0.1)


class Mortal:
    """In the engine's place, so that the engine itself need not die once more."""

    def sample(self, *request: object) -> None: ...


def test_one_death_too_many_stops_the_run_with_one_line(stage: Stage) -> None:
    (slot,) = stage.pool.slots
    assert slot.num_replaced == 3
    alive, slot.handle = slot.handle, ray.remote(Mortal).options(num_cpus=0).remote()
    ray.kill(slot.handle)
    try:
        with pytest.raises(
            RunStopped, match=r"engine 0 died 4 times \(its actor is gone.*rollouts.max_engine_replacements"
        ) as caught:
            sample(stage, "once too often")
    finally:
        slot.handle, slot._replacement = alive, None
    assert "\n" not in str(caught.value)
