"""Learner ranks as Ray actors.

    trainer -- await step(groups) --> LearnerRanks --+--> LearnerRank 0  --\\
                groups are stored once (ray.put)     +--> LearnerRank 1  ---+-- talk to each other in every pass
                                                     +--> ...            --/    (gloo on CPU, nccl on GPU)

The trainer waits for all ranks; ranks wait for each other. So when one fails, the others would wait forever: the first
failure kills all of them, by handle, and is what the trainer gets to see. A run goes on from its last checkpoint.
Only a sync that an engine broke off leaves the ranks as they were, once all are back from it: another one follows.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, OutOfMemoryError, RayActorError, RayTaskError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rewards.errors import PodiumError, RunStopped
from rl.config import RLConfig
from rl.objectives import Objective
from rl.types import TrainGroup

if TYPE_CHECKING:
    from rl.learner import Learner
    from rl.weights import Backend, WeightSender

GRACE_S = 5.0
"""After a failure, how long the other ranks may take to report theirs: a rank that died takes the others down too."""

STOP_S = 10.0

MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""On a CPU, glibc gives every large tensor's memory back and asks for it again; keeping it saves about a tenth."""


class LearnerRank:
    """One rank: a Learner behind Ray calls. Every method but `address` runs on all ranks at the same time."""

    def __init__(self, rank: int, world_size: int):
        self._rank, self._world_size = rank, world_size
        self._learner: Learner | None = None
        self._sender: WeightSender | None = None

    def address(self) -> tuple[str, int]:
        """This node's address and a free port on it."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def place(self) -> tuple[str, int]:
        """Host and process id."""
        return os.uname().nodename, os.getpid()

    def start(self, master: tuple[str, int], model_dir: str, config: RLConfig, options: Mapping[str, Any]) -> None:
        from rl.learner import Learner

        self._learner = Learner(
            model_dir,
            config,
            rank=self._rank,
            world_size=self._world_size,
            master_addr=master[0],
            master_port=master[1],
            **options,
        )

    def step(self, groups: Sequence[TrainGroup]) -> dict[str, float]:
        return self.learner.step(groups)

    def logprobs(self, groups: Sequence[TrainGroup], reference: bool) -> list[np.ndarray]:
        return self.learner.logprobs(groups, reference=reference)

    def sync(
        self, engine_handles: Sequence[Any], version: int, verify: bool, backend: Backend, dtype: str
    ) -> dict[str, float]:
        import torch

        from rl.weights import WeightSender

        if self._sender is None:
            self._sender = WeightSender(
                self.learner.model, dtype=getattr(torch, dtype), backend=backend, rank=self._rank
            )
        return self._sender.send(engine_handles, version, verify=verify)

    def save(self, path: str, extra: Mapping[str, Any]) -> None:
        self.learner.save(path, extra)

    def load(self, path: str) -> dict[str, Any]:
        return self.learner.load(path)

    def export(self, out_dir: str) -> None:
        self.learner.export_hf(out_dir)

    def run(self, target: str, *args: Any) -> Any:
        module, name = target.split(":")
        return getattr(importlib.import_module(module), name)(self.learner, *args)

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()
        if self._learner is not None:
            self._learner.close()

    @property
    def learner(self) -> Learner:
        if self._learner is None:
            raise RuntimeError("the learner has not been started")
        return self._learner


class LearnerRanks:
    """All ranks as one learner, for the trainer.

    Args:
        device: "cpu" or "cuda".
        engine_handles: the engines' actors as they are now, asked before each sync (an engine may be replaced).
        backend, wire_dtype: how weights travel to them (rl/weights.py).
        placement_group: whose bundles `first_bundle`, ... hold one rank each; default: wherever Ray finds room.
        gpus_per_rank: Ray's count; a fraction where an engine shares the GPU.
    """

    def __init__(
        self,
        config: RLConfig,
        *,
        device: str,
        engine_handles: Callable[[], Sequence[Any]] = tuple,
        backend: Backend = "shm",
        wire_dtype: str = "bfloat16",
        placement_group: PlacementGroup | None = None,
        first_bundle: int = 0,
        gpus_per_rank: float = 1.0,
    ):
        self._config, self._device = config, device
        self._engine_handles = engine_handles
        self._backend: Backend = backend
        self._wire_dtype = wire_dtype
        self._placement_group, self._first_bundle = placement_group, first_bundle
        self._gpus_per_rank = gpus_per_rank
        self.handles: list[Any] = []
        self._version: int | None = None
        self._moved = False
        self._places: dict[str, tuple[str, int]] = {}

    async def start(self, model_dir: str, *, objective: Objective, temperature: float, seed: int) -> None:
        """Start the actors and load the model on each.

        Raises:
            UserError: the model or the configuration cannot be trained.
        """
        num_ranks = self._config.learner.ranks
        self.handles = [self._actor(rank, num_ranks) for rank in range(num_ranks)]
        master = await self._wait([self.handles[0].address.remote()])
        options = {"objective": objective, "temperature": temperature, "seed": seed, "device": self._device}
        places = await self._wait([handle.place.remote() for handle in self.handles])
        self._places = {f"rank{rank}": place for rank, place in enumerate(places)}
        await self._all("start", master[0], model_dir, self._config, options)

    async def step(self, groups: Sequence[TrainGroup]) -> dict[str, float]:
        """See Learner.step."""
        ref = _put(groups)
        self._moved = True  # ranks work off their calls in order: whatever is asked from here on sees the new weights
        return (await self._all("step", ref))[0]

    async def logprobs(self, groups: Sequence[TrainGroup], *, reference: bool = False) -> list[np.ndarray]:
        """See Learner.logprobs."""
        return (await self._all("logprobs", _put(groups), reference))[0]

    async def sync(self, version: int, *, verify: bool) -> dict[str, float]:
        """Bring every engine to the learner's weights. Raises RunStopped where a transfer fails or bytes differ."""
        metrics = await self._send(self._engine_handles(), version, verify)
        self._version, self._moved = version, False
        return metrics

    async def renew(self, handle: Any) -> None:
        """Bring one new engine to the version that the others have; before the first sync it has it already.

        While a step is learned the older weights are on their way out: the engine gets the ones that come of it, under
        the version that the next sync will give them.
        """
        if self._version is not None:
            await self._send([handle], self._version + self._moved, True)

    async def _send(self, handles: Sequence[Any], version: int, verify: bool) -> dict[str, float]:
        how = verify, self._backend, self._wire_dtype
        return (await self._all("sync", list(handles), version, *how, outlive=True))[0]

    async def save(self, path: Any, extra: Mapping[str, Any]) -> None:
        """See Learner.save."""
        await self._all("save", str(path), dict(extra))

    async def load(self, path: Any) -> dict[str, Any]:
        """See Learner.load."""
        return (await self._all("load", str(path)))[0]

    async def export(self, out_dir: Any) -> None:
        """See Learner.export_hf."""
        await self._all("export", str(out_dir))

    async def run(self, target: str, *args: Any) -> list[Any]:
        """function(learner, *args) on every rank, for `target` "module:function"; results in order of ranks."""
        return await self._all("run", target, *args)

    def processes(self) -> dict[str, int]:
        """Process ids of the ranks on this host, by name."""
        return {name: pid for name, (host, pid) in self._places.items() if host == os.uname().nodename}

    async def stop(self) -> None:
        """End all ranks, whatever state they are in."""
        closing = [_outcome(handle.close.remote()) for handle in self.handles]
        if closing:
            await asyncio.wait([asyncio.ensure_future(task) for task in closing], timeout=STOP_S)
        self._kill()

    def _actor(self, rank: int, num_ranks: int) -> Any:
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "runtime_env": {"env_vars": self._env(num_ranks)}}
        if self._device == "cuda":
            options["num_gpus"] = self._gpus_per_rank
        if self._placement_group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                self._placement_group, placement_group_bundle_index=self._first_bundle + rank
            )
        return ray.remote(LearnerRank).options(**options).remote(rank, num_ranks)

    def _env(self, num_ranks: int) -> dict[str, str]:
        if self._device == "cuda":
            return {}
        # Ray would set one thread for an actor without num_cpus, and actors with them would wait for free ones.
        threads = self._config.learner.cpu_threads or max(1, len(os.sched_getaffinity(0)) // num_ranks)
        return {"OMP_NUM_THREADS": str(threads), "DS_ACCELERATOR": "cpu"} | MALLOC

    async def _all(self, method: str, *args: Any, outlive: bool = False) -> list[Any]:
        if not self.handles:
            raise RunStopped("the learner is not running; resume from the last checkpoint")
        return await self._wait([getattr(handle, method).remote(*args) for handle in self.handles], outlive=outlive)

    async def _wait(self, refs: Sequence[Any], *, outlive: bool = False) -> list[Any]:
        """Results of all ranks; the first failure kills every rank and is raised.

        Args:
            outlive: no rank is killed where all are back and those that failed raised RunStopped.
        """
        tasks = [asyncio.ensure_future(_value(ref)) for ref in refs]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if all(task.done() and task.exception() is None for task in tasks):
            return [task.result() for task in tasks]
        await asyncio.wait(tasks, timeout=GRACE_S)
        errors = {rank: error for rank, task in enumerate(tasks) if task.done() and (error := task.exception())}
        stopped = all(isinstance(_raised(error), RunStopped) for error in errors.values())
        if not (outlive and stopped and all(task.done() for task in tasks)):
            self._kill()
        for task in tasks:
            task.cancel()
        raise _first_cause(errors)

    def _kill(self) -> None:
        for handle in self.handles:
            ray.kill(handle)
        self.handles = []


def _put(groups: Sequence[TrainGroup]) -> Any:
    """The groups in Ray's object store. Raises RunStopped where neither memory nor disk has room for them."""
    try:
        return ray.put(list(groups))
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise RunStopped(
            f"Ray's object store has no room for the step's groups ({str(error).strip().splitlines()[0]}); "
            "free shared memory and disk, then go on with --resume: the groups are on disk"
        ) from error


async def _value(ref: Any) -> Any:
    return await ref


async def _outcome(ref: Any) -> BaseException | None:
    """Waits; a rank that cannot close any more is killed anyway."""
    try:
        await ref
    except (RayActorError, OutOfMemoryError, RayTaskError) as error:
        return error
    return None


def _raised(error: BaseException) -> BaseException | None:
    """What a rank's call raised; None where the rank died."""
    return error.cause if isinstance(error, RayTaskError) else None


def _first_cause(errors: Mapping[int, BaseException]) -> BaseException:
    """What to tell of the ranks' failures: what podium raised on purpose, else a death, else the first traceback."""
    for error in errors.values():
        if isinstance(raised := _raised(error), PodiumError):
            return raised
    for rank, error in errors.items():
        if isinstance(error, (RayActorError, OutOfMemoryError)):
            reason = str(error).strip().splitlines()[0]
            return RunStopped(f"learner rank {rank} died ({reason}); resume from the last checkpoint")
    return next(iter(errors.values()))
