"""Deaths of engines that take a dead one's place. No Ray: the engines are objects that answer `check`, or do not."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import RayActorError

import rollouts.engine_slot
from rewards.errors import RunStopped
from rollouts.config import EngineConfig
from rollouts.engine import EngineSpec
from rollouts.engine_slot import EngineSlot
from rollouts.janitor import Footprint


class Mortal:
    """An engine's actor."""

    def __init__(self) -> None:
        self.alive = True
        self.check = self

    async def remote(self) -> None:
        if not self.alive:
            raise RayActorError


class Stand:
    """A slot; the first `deaths` of its new engines die while they are renewed. `events` is what happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, max_replacements: int, deaths: int) -> None:
        self.events: list[str] = []
        self.deaths = deaths
        monkeypatch.setattr(rollouts.engine_slot, "start_engine", self._start)
        monkeypatch.setattr(rollouts.engine_slot, "left_by", self._left_by)
        monkeypatch.setattr(rollouts.engine_slot.ray, "kill", lambda handle: self.events.append("kill"))
        self.slot = EngineSlot(
            0,
            EngineSpec(model="m", max_model_len=8, config=EngineConfig(), device="cpu"),
            {},
            max_replacements=max_replacements,
            renew=self._renew,
            on_replaced=lambda number, cause: self.events.append("replace"),
        )

    async def _start(self, spec: EngineSpec, **options: Any) -> Mortal:
        self.events.append("start")
        return Mortal()

    async def _left_by(self, handle: Mortal) -> tuple[Footprint, dict[str, int]]:
        return Footprint(host="here", pids=(), shared_memory=()), {}

    async def _renew(self, handle: Mortal) -> None:
        self.events.append("renew")
        if self.deaths > 0:
            self.deaths -= 1
            handle.alive = False
        if not handle.alive or self.deaths < 0:
            raise RunStopped("weight sync broke off")


async def test_one_that_dies_while_it_is_renewed_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, max_replacements=3, deaths=2)
    await stand.slot.start()
    first = stand.slot.handle
    await stand.slot.replace(first, "it burned down")
    assert stand.events == ["start", *["replace", "kill", "start", "renew"] * 3]
    assert (stand.slot.num_replaced, stand.slot.is_replacing) == (3, False)
    assert stand.slot.handle is not first
    assert await stand.slot.cause_of_death() is None


async def test_such_deaths_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, max_replacements=2, deaths=9)
    await stand.slot.start()
    with pytest.raises(RunStopped, match=r"engine 0 died 3 times \(its actor is gone.*max_engine_replacements"):
        await stand.slot.replace(stand.slot.handle, "it burned down")


async def test_what_stops_the_renewal_of_a_living_engine_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, max_replacements=3, deaths=-1)
    await stand.slot.start()
    with pytest.raises(RunStopped, match="broke off"):
        await stand.slot.replace(stand.slot.handle, "it burned down")
    assert stand.slot.num_replaced == 1
