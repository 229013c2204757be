"""One engine's place in the pool: the actor that stands there now, and another one when it dies.

rollout tasks --sample--> handle --X--  the actor, vLLM's core or its worker is gone
    |                                     |
    +-- replace(dead handle) ------------>+   the first to notice starts the new engine, the others wait for it:
    |                                         kill what is left -> new actor -> renew(handle): current weights
    |                                         one that dies on the way there is replaced too
    +<-- new handle ----------------------+
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

from rewards.errors import RunStopped
from rollouts.engine import SHUTDOWN_GRACE_S, Engine, EngineDied, EngineSpec
from rollouts.janitor import Footprint

START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = SHUTDOWN_GRACE_S + 10.0

DEAD = (RayActorError, OutOfMemoryError)
"""What a call to an actor that is gone raises; the latter where Ray's memory monitor killed it."""

VITAL = {"EngineCor": "core", "Worker": "worker"}
"""Parts of the titles of vLLM's processes, which the kernel cuts after 15 letters, and their roles here."""

Renew = Callable[[Any], Awaitable[None]]
"""Brings a new engine to the current policy version."""


class EngineSlot:
    """Keeps one engine alive, at most `max_replacements` times anew.

    Args:
        options: Ray options of the actor.
        on_replaced: told of every death: the slot's number and the cause, one line.
    """

    def __init__(
        self,
        number: int,
        spec: EngineSpec,
        options: dict[str, Any],
        *,
        max_replacements: int,
        renew: Renew | None = None,
        on_replaced: Callable[[int, str], None] | None = None,
    ) -> None:
        self.number = number
        self.handle: Any = None
        self.num_replaced = 0
        self._spec, self._options = spec, options
        self._max_replacements = max_replacements
        self._renew, self._on_replaced = renew, on_replaced
        self._footprint: Footprint | None = None
        self._pids: dict[str, int] = {}
        self._replacement: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the engine; returns once its model is loaded.

        Raises:
            RunStopped: it was not ready in time.
        """
        self.handle = await start_engine(self._spec, **self._options)
        self._footprint, self._pids = await left_by(self.handle)

    async def replace(self, dead: Any, cause: str) -> None:
        """Returns once another engine than `dead` stands here, with the current weights.

        Raises:
            RunStopped: engines died too often, or the new one did not start.
        """
        if self.handle is not dead:
            return
        if self._replacement is None:
            self._replacement = asyncio.create_task(self._start_anew(cause), name=f"replace engine {self.number}")
        # Shielded: a rollout that is given up must not take the others' engine away.
        await asyncio.shield(self._replacement)

    async def _start_anew(self, cause: str | None) -> None:
        handle = self.handle
        try:
            while cause is not None:
                if self.num_replaced >= self._max_replacements:
                    raise RunStopped(
                        f"engine {self.number} died {self.num_replaced + 1} times ({cause}); look for the reason in "
                        "Ray's logs (memory?), then resume the run, or raise rollouts.max_engine_replacements"
                    )
                self.num_replaced += 1
                if self._on_replaced is not None:
                    self._on_replaced(self.number, cause)
                ray.kill(handle)
                try:
                    handle = await start_engine(self._spec, **self._options)
                    self._footprint, self._pids = await left_by(handle)
                    cause = await self._renewed(handle)
                except (RayTaskError, *DEAD) as error:
                    if (cause := cause_of_death(error)) is None:
                        raise
            self.handle = handle
        finally:
            self._replacement = None
            if handle is not self.handle:
                ray.kill(handle)

    async def _renewed(self, handle: Any) -> str | None:
        """Brings a new engine to the current weights; why it is gone, if it died of that."""
        try:
            if self._renew is not None:
                await self._renew(handle)
        except RunStopped:
            if (cause := await death_of(handle)) is None:
                raise
            return cause
        return None

    async def cause_of_death(self) -> str | None:
        """Why the engine is gone, or None while it lives."""
        return await death_of(self.handle)

    def processes(self) -> dict[str, int]:
        """The engine's processes by role, `engine0-actor` for instance, if they run on this host."""
        left = self._footprint
        if left is None or left.host != os.uname().nodename:
            return {}
        return {f"engine{self.number}-{role_of(name)}": pid for name, pid in self._pids.items()}

    @property
    def is_replacing(self) -> bool:
        return self._replacement is not None

    def kill(self) -> None:
        """End the engine by force. On this host its processes one by one: a stopped one hears nobody but the kernel."""
        if self.handle is None or self.is_replacing:
            return
        ray.kill(self.handle)
        for pid in self.processes().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._pids = {}  # the kernel gives their numbers to others

    async def stop(self) -> None:
        """End the engine with its processes, also one that is just being started."""
        if self._replacement is not None:
            self._replacement.cancel()
            await asyncio.gather(self._replacement, return_exceptions=True)
            self._replacement = None
        if self.handle is not None:
            if not await stop_engine(self.handle):
                self.kill()
            self.handle = None


async def start_engine(spec: EngineSpec, **options: Any) -> Any:
    """Start one engine actor; returns its handle once the model is loaded."""
    handle: Any = cast(Any, ray.remote(Engine)).options(**options).remote(spec)
    try:
        await asyncio.wait_for(handle.start.remote(), START_TIMEOUT_S)
    except TimeoutError:
        ray.kill(handle)
        raise RunStopped(f"engine for `{spec.model}` was not ready after {START_TIMEOUT_S:.0f} s") from None
    except BaseException:
        ray.kill(handle)
        raise
    return handle


async def left_by(handle: Any) -> tuple[Footprint, dict[str, int]]:
    """What an engine leaves behind if it is killed, and its processes by their names."""
    footprint, pids = await asyncio.gather(handle.footprint.remote(), handle.pids.remote())
    return footprint, pids


def role_of(name: str) -> str:
    """`actor`, `core-PID`, `worker-PID`, or what else the process is called; `name` is one of `Engine.pids`."""
    if name == "engine":
        return "actor"
    title, _, pid = name.rpartition(":")
    known = next((role for part, role in VITAL.items() if part in title), title.replace("/", "_"))
    return f"{known}-{pid}"


async def stop_engine(handle: Any) -> bool:
    """End one engine with its processes; False if it did not hear and its actor had to be killed."""
    heard = True
    try:
        await asyncio.wait_for(handle.stop.remote(), STOP_TIMEOUT_S)
    except DEAD:
        return True  # already gone
    except TimeoutError:
        heard = False
    ray.kill(handle)
    return heard


async def death_of(handle: Any) -> str | None:
    """Why an engine is gone, or None while it lives."""
    try:
        await handle.check.remote()
    except (RayTaskError, *DEAD) as error:
        if (cause := cause_of_death(error)) is None:
            raise
        return cause
    return None


def cause_of_death(error: BaseException) -> str | None:
    """One line if the error means that an engine is gone, else None."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, EngineDied):
        return str(error.cause).splitlines()[0]
    if isinstance(error, DEAD):
        return f"its actor is gone: {str(error).strip().splitlines()[0]}"
    return None
