"""How engines die, and what takes their place. No Ray: engines are objects that answer, or raise as Ray does."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

import rollouts.engine
import rollouts.engine_slot
import rollouts.pool
from rewards.errors import RunStopped
from rewards.types import GroupKey, ParsedAnswer, Prompt
from rollouts.config import EngineConfig
from rollouts.engine import Engine, EngineDied, EngineSpec, SampledAnswer
from rollouts.engine_slot import EngineSlot, cause_of_death, stop_engine
from rollouts.janitor import Footprint
from rollouts.pool import EnginePool
from rollouts.types import GroupRequest, SamplingSpec, VersionSpan

SPEC = EngineSpec(model="m", max_model_len=8, config=EngineConfig(), device="cpu")
OUT_OF_MEMORY = OutOfMemoryError("Task was killed due to the node running low on memory.\nMemory on the node was ...")
CORE_DIED = EngineDied("vLLM's core process died")
DEATHS = [RayActorError(), OUT_OF_MEMORY, RayTaskError("sample", "traceback", CORE_DIED).as_instanceof_cause()]


class FakeEngine:
    """An engine's actor: every call to it raises `death`, if there is one."""

    def __init__(self, death: Exception | None = None) -> None:
        self.death = death
        self.check = self.sample = self.stop = self

    async def remote(self, *request: object) -> SampledAnswer:
        if self.death is not None:
            raise self.death
        tokens, logprobs = np.array([9], dtype=np.int32), np.array([-1.0], dtype=np.float32)
        return SampledAnswer(tokens, logprobs, "an answer", "stop", (VersionSpan(0, 0, 1),))


class Stand:
    """Starts engines: of each new one, `deaths` says in which call it dies and of what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *deaths: tuple[str, Exception]) -> None:
        self.deaths = list(deaths)
        self.killed: list[Any] = []
        self.causes: list[str] = []
        self._now: tuple[str, Exception] | None = None
        monkeypatch.setattr(rollouts.engine_slot, "start_engine", self._start)
        monkeypatch.setattr(rollouts.engine_slot, "left_by", self._left_by)
        monkeypatch.setattr(rollouts.engine_slot.ray, "kill", self.killed.append)
        monkeypatch.setattr(rollouts.pool.ray, "put", lambda value: value)

    def settings(self, max_replacements: int) -> dict[str, Any]:
        return {"max_replacements": max_replacements, "renew": self._renew, "on_replaced": self._told}

    def _told(self, number: int, cause: str) -> None:
        self.causes.append(cause)

    async def _start(self, spec: EngineSpec, **options: Any) -> FakeEngine:
        self._now = self.deaths.pop(0) if self.deaths else None
        handle = FakeEngine()
        self._die_in("start", handle)
        return handle

    async def _left_by(self, handle: FakeEngine) -> tuple[Footprint, dict[str, int]]:
        self._die_in("left_by", handle)
        return Footprint(host="elsewhere", pids=(), shared_memory=()), {}

    async def _renew(self, handle: FakeEngine) -> None:
        """As a weight sync, which says RunStopped whatever happened on the way."""
        try:
            self._die_in("renew", handle)
        except (RayActorError, OutOfMemoryError) as error:
            raise RunStopped("weight sync broke off") from error

    def _die_in(self, call: str, handle: FakeEngine) -> None:
        if self._now is not None and self._now[0] == call:
            if not isinstance(self._now[1], RunStopped):
                handle.death = self._now[1]
            raise self._now[1]


async def dead_slot(stand: Stand, *, max_replacements: int) -> EngineSlot:
    slot = EngineSlot(0, SPEC, {}, **stand.settings(max_replacements))
    slot.handle = FakeEngine(RayActorError())
    return slot


@pytest.mark.parametrize("death", DEATHS)
async def test_a_rollout_whose_engine_died_is_sampled_by_another(
    monkeypatch: pytest.MonkeyPatch, death: Exception
) -> None:
    stand = Stand(monkeypatch)
    pool = EnginePool(
        [SPEC], parse=lambda prompt, text: ParsedAnswer(), deadline_s=60.0, **stand.settings(max_replacements=1)
    )
    pool.slots[0].handle = first = FakeEngine(death)
    tokens = np.array([1], dtype=np.int32)
    sampling = SamplingSpec(max_tokens=1, temperature=1.0)
    (group,) = await pool.sample([GroupRequest(GroupKey("g"), Prompt("p", "text"), tokens, (5, 6), sampling)])
    assert [rollout and rollout.text for rollout in group.rollouts] == ["an answer"] * 2
    assert len(stand.causes) == 1
    assert stand.killed == [first]


@pytest.mark.parametrize("death", DEATHS)
async def test_a_look_finds_out_what_an_engine_died_of_and_ending_it_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, death: Exception
) -> None:
    slot = await dead_slot(Stand(monkeypatch), max_replacements=0)
    slot.handle = FakeEngine(death)
    cause = await slot.cause_of_death()
    assert cause is not None
    assert "\n" not in cause
    if not isinstance(death, RayTaskError):
        assert await stop_engine(slot.handle)


async def test_a_new_engine_that_dies_before_it_is_ready_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(
        monkeypatch, ("start", OUT_OF_MEMORY), ("start", DEATHS[2]), ("left_by", RayActorError()), ("renew", DEATHS[0])
    )
    slot = await dead_slot(stand, max_replacements=5)
    first = slot.handle
    await slot.replace(first, "it burned down")
    assert slot.handle is not first
    assert slot.handle.death is None
    assert (slot.num_replaced, slot.is_replacing) == (5, False)
    low_on_memory = "its actor is gone: Task was killed due to the node running low on memory."
    assert stand.causes[:3] == ["it burned down", low_on_memory, "vLLM's core process died"]
    assert all(cause.startswith("its actor is gone: ") for cause in stand.causes[3:])
    assert slot.handle not in stand.killed
    assert len(set(stand.killed)) == 3  # the first, and those that had been started


async def test_a_core_that_ends_while_it_starts_is_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM raises this where its core is killed while it loads the model."""

    def from_engine_args(arguments: object) -> None:
        raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")

    monkeypatch.setattr(rollouts.engine, "environment", lambda spec: {})
    for name, attribute in (
        ("vllm", {"AsyncEngineArgs": lambda **arguments: arguments}),
        ("vllm.config.weight_transfer", {"WeightTransferConfig": object}),
        ("vllm.v1.engine.async_llm", {"AsyncLLM": SimpleNamespace(from_engine_args=from_engine_args)}),
    ):
        monkeypatch.setitem(sys.modules, name, cast(Any, SimpleNamespace(**attribute)))
    with pytest.raises(EngineDied, match=r"^vLLM did not start: Engine core initialization failed") as caught:
        await Engine(SPEC).start()
    raised = RayTaskError("start", "traceback", caught.value).as_instanceof_cause()
    assert cause_of_death(raised) == str(caught.value)


async def test_deaths_of_new_engines_count_and_the_next_to_ask_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, *[("start", OUT_OF_MEMORY)] * 9)
    slot = await dead_slot(stand, max_replacements=2)
    for _ in range(2):
        with pytest.raises(RunStopped, match=r"engine 0 died 3 times \(.*max_engine_replacements") as caught:
            await slot.replace(slot.handle, "its actor is gone")
        assert "\n" not in str(caught.value)
        assert not slot.is_replacing
    assert len(stand.deaths) == 7


async def test_what_is_no_death_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = RayTaskError("start", "traceback", ValueError("a bug")).as_instanceof_cause()
    for call, error in (("start", bug), ("start", RunStopped("not ready")), ("renew", RunStopped("other bytes"))):
        stand = Stand(monkeypatch, (call, error))
        slot = await dead_slot(stand, max_replacements=3)
        with pytest.raises(type(error)):
            await slot.replace(slot.handle, "it burned down")
        assert (slot.num_replaced, slot.is_replacing) == (1, False)


async def test_a_new_engine_that_is_not_wanted_any_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch)
    slot = await dead_slot(stand, max_replacements=1)
    dead, renewing = slot.handle, asyncio.Event()

    async def renew(handle: FakeEngine) -> None:
        renewing.set()
        await asyncio.sleep(60)

    slot._renew = renew
    replacing = asyncio.create_task(slot.replace(dead, "it burned down"))
    await renewing.wait()
    await slot.stop()
    with pytest.raises(asyncio.CancelledError):
        await replacing
    assert any(handle is not dead for handle in stand.killed)
