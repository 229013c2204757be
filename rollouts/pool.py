"""The engines of a run as Ray actors, and sampling over them.

    trainer --sample(requests, sink)--> EnginePool
                                          |  one task per rollout; a group's rollouts go to one engine (shared prefix)
                                          v
                                        Engine actors (Ray, async) --> vLLM
                                          |  as each answer finishes
                                          v
                                        sink.add(candidate)        nobody waits for the slowest rollout to start judging

A rollout over its deadline is cancelled, given up and counted. An engine that dies ends the step with RunStopped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from rewards.errors import RunStopped
from rewards.types import Candidate, GroupSink, ParsedAnswer, Prompt
from rollouts.engine import Engine, EngineDied, EngineSpec, SampledAnswer
from rollouts.types import EngineStats, Group, GroupRequest, Rollout, Turn

START_TIMEOUT_S = 900.0


def share_cores(num_engines: int, cores: Sequence[int] | None = None) -> list[tuple[int, ...]]:
    """Deal this host's cores out among its engines, in runs of neighbours; engines share cores if there are too few."""
    cores = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)
    if num_engines > len(cores):
        return [(cores[index % len(cores)],) for index in range(num_engines)]
    bounds = [round(index * len(cores) / num_engines) for index in range(num_engines + 1)]
    return [tuple(cores[low:high]) for low, high in pairwise(bounds)]


def actor_options(spec: EngineSpec, bundle: tuple[Any, int] | None = None, gpu_share: float = 1.0) -> dict[str, Any]:
    """Ray options of one engine actor.

    A CPU engine takes no CPU slots: its threads are bound by vLLM, and slots would make a small host wait forever.
    A GPU engine takes one GPU per tensor-parallel rank, or `gpu_share` of one beside a colocated learner.
    """
    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 65536, "max_restarts": 0}
    if spec.device == "cuda":
        options["num_gpus"] = spec.config.tensor_parallel_size * gpu_share
    if bundle is not None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group, index = bundle
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    return options


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


async def stop_engine(handle: Any) -> None:
    """End one engine with its processes."""
    try:
        await handle.stop.remote()
    except RayActorError:
        return  # already gone
    ray.kill(handle)


@dataclass
class EnginePool:
    """One or many engines behind `sample`. `parse` reads a task's answer out of the text."""

    specs: Sequence[EngineSpec]
    parse: Callable[[Prompt, str], ParsedAnswer]
    deadline_s: float
    bundles: Sequence[tuple[Any, int]] | None = None
    gpu_share: float = 1.0
    on_rollout: Callable[[Rollout], None] | None = None

    def __post_init__(self) -> None:
        self.handles: list[Any] = []
        self.stats = EngineStats()
        self._outstanding: list[int] = []

    async def start(self) -> None:
        """Start all engines at once; if one fails, none is left behind."""
        bundles: Sequence[tuple[Any, int] | None] = self.bundles or [None] * len(self.specs)
        started = await asyncio.gather(
            *(
                start_engine(spec, **actor_options(spec, bundle, self.gpu_share))
                for spec, bundle in zip(self.specs, bundles, strict=True)
            ),
            return_exceptions=True,
        )
        self.handles = [handle for handle in started if not isinstance(handle, BaseException)]
        self._outstanding = [0] * len(self.handles)
        for outcome in started:
            if isinstance(outcome, BaseException):
                await self.stop()
                raise outcome

    async def stop(self) -> None:
        await asyncio.gather(*(stop_engine(handle) for handle in self.handles))
        self.handles = []

    async def sleep(self) -> None:
        await asyncio.gather(*(handle.sleep.remote() for handle in self.handles))

    async def wake(self, tags: list[str]) -> None:
        await asyncio.gather(*(handle.wake.remote(tags) for handle in self.handles))

    async def versions(self) -> list[int]:
        """The policy version of each engine."""
        return list(await asyncio.gather(*(handle.version.remote() for handle in self.handles)))

    async def sample(self, requests: Sequence[GroupRequest], sink: GroupSink | None = None) -> list[Group]:
        """Sample all groups; finished rollouts go to the sink at once.

        Raises:
            RunStopped: an engine died.
        """
        async with asyncio.TaskGroup() as tasks:
            groups = [tasks.create_task(self._sample_group(request, sink)) for request in requests]
        return [group.result() for group in groups]

    async def _sample_group(self, request: GroupRequest, sink: GroupSink | None) -> Group:
        engine = min(range(len(self.handles)), key=lambda index: (self._outstanding[index], index))
        self._outstanding[engine] += len(request.seeds)
        try:
            if sink is not None:
                await sink.open(request.key, request.prompt, len(request.seeds))
            prompt_ref = ray.put(request.prompt_token_ids)
            async with asyncio.TaskGroup() as tasks:
                rollouts = [
                    tasks.create_task(self._sample_rollout(engine, request, prompt_ref, index, sink))
                    for index in range(len(request.seeds))
                ]
            if sink is not None:
                await sink.close(request.key)
        finally:
            self._outstanding[engine] -= len(request.seeds)
        return Group(
            key=request.key,
            prompt=request.prompt,
            prompt_token_ids=request.prompt_token_ids,
            rollouts=tuple(rollout.result() for rollout in rollouts),
        )

    async def _sample_rollout(
        self, engine: int, request: GroupRequest, prompt_ref: Any, index: int, sink: GroupSink | None
    ) -> Rollout | None:
        reply = self.handles[engine].sample.remote(prompt_ref, request.seeds[index], request.sampling)
        try:
            answer = cast(SampledAnswer, await asyncio.wait_for(reply, self.deadline_s))
        except TimeoutError:
            ray.cancel(reply)
            self.stats = replace(self.stats, rollouts_lost=self.stats.rollouts_lost + 1)
            return None
        except RayTaskError as error:
            if isinstance(error.cause, EngineDied):
                raise RunStopped(f"engine {engine} died while sampling {request.key}: {error.cause}") from error
            raise
        except RayActorError as error:
            raise RunStopped(f"the actor of engine {engine} died while sampling {request.key}: {error}") from error
        rollout = make_rollout(request, index, answer, self.parse(request.prompt, answer.text))
        self.stats = replace(
            self.stats,
            tokens_generated=self.stats.tokens_generated + rollout.num_tokens,
            rollouts_finished=self.stats.rollouts_finished + 1,
        )
        if self.on_rollout is not None:
            self.on_rollout(rollout)
        if sink is not None:
            await sink.add(request.key, index, candidate_of(rollout))
        return rollout


def make_rollout(request: GroupRequest, index: int, answer: SampledAnswer, parsed: ParsedAnswer) -> Rollout:
    """A single-turn rollout: every answer token is the policy's own."""
    num_tokens = len(answer.token_ids)
    return Rollout(
        key=request.key,
        index=index,
        seed=request.seeds[index],
        token_ids=answer.token_ids,
        logprobs=answer.logprobs,
        loss_mask=np.ones(num_tokens, dtype=np.bool_),
        text=answer.text,
        finish_reason=answer.finish_reason,
        versions=answer.versions,
        turns=(Turn("assistant", 0, num_tokens),),
        parsed=parsed,
    )


def candidate_of(rollout: Rollout) -> Candidate:
    """What the reward side sees of a rollout: the parsed answer if the task names one, else the whole text."""
    return Candidate(
        id=f"{rollout.key}/{rollout.index}",
        text=rollout.parsed.parts.get("answer", rollout.text),
        num_tokens=rollout.num_tokens,
        parsed=rollout.parsed,
    )
