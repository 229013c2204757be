"""The engines of a run as Ray actors, and sampling over them.

    trainer --sample(requests, sink)--> EnginePool
                                          |  one task per rollout; a group's rollouts go to one engine (shared prefix)
                                          v
                                        Engine actors (Ray, async) --> vLLM
                                          |  as each answer finishes
                                          v
                                        sink.add(candidate)        nobody waits for the slowest rollout to start judging

A rollout over its deadline is cancelled, given up and counted. An engine that dies is replaced, with the current
weights (rollouts/engine_slot.py): its unfinished rollouts are sampled again, finished ones stay.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import ray
from ray.exceptions import RayTaskError

from rewards.together import all_or_none
from rewards.types import GroupKey, GroupSink, ParsedAnswer, Prompt
from rollouts.engine import EngineSpec, SampledAnswer
from rollouts.engine_slot import DEAD, EngineSlot, Renew, cause_of_death
from rollouts.segments import locate_segments
from rollouts.types import EngineStats, Group, GroupRequest, Rollout, Turn, candidate_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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


@dataclass
class EnginePool:
    """One or many engines behind `sample`. `parse` reads a task's answer out of the text.

    tokenizer: the policy's; needed where answers have segments. max_replacements: how often each engine may die.
    renew: brings a new one to the current weights; needed where engines are updated.
    """

    specs: Sequence[EngineSpec]
    parse: Callable[[Prompt, str], ParsedAnswer]
    deadline_s: float
    tokenizer: PreTrainedTokenizerBase | None = None
    bundles: Sequence[tuple[Any, int]] | None = None
    gpu_share: float = 1.0
    max_replacements: int = 0
    renew: Renew | None = None
    on_rollout: Callable[[Rollout], None] | None = None
    on_replaced: Callable[[int, str], None] | None = None

    def __post_init__(self) -> None:
        bundles: Sequence[tuple[Any, int] | None] = self.bundles or [None] * len(self.specs)
        self.slots = [
            EngineSlot(
                number,
                spec,
                actor_options(spec, bundle, self.gpu_share),
                max_replacements=self.max_replacements,
                renew=self.renew,
                on_replaced=self.on_replaced,
            )
            for number, (spec, bundle) in enumerate(zip(self.specs, bundles, strict=True))
        ]
        self.stats = EngineStats()
        self._outstanding = [0] * len(self.slots)
        self._unfinished: set[tuple[GroupKey, int]] = set()

    @property
    def handles(self) -> list[Any]:
        """The engines' actors as they are now."""
        return [slot.handle for slot in self.slots if slot.handle is not None]

    async def start(self) -> None:
        """Start all engines at once; if one fails, none is left behind."""
        outcomes = await asyncio.gather(*(slot.start() for slot in self.slots), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.stop()
                raise outcome

    async def stop(self) -> None:
        await asyncio.gather(*(slot.stop() for slot in self.slots))

    async def sleep(self) -> None:
        await asyncio.gather(*(handle.sleep.remote() for handle in self.handles))

    async def wake(self, tags: list[str]) -> None:
        await asyncio.gather(*(handle.wake.remote(tags) for handle in self.handles))

    async def heal(self, *, everyone: bool = False) -> int:
        """Replace the engines that are dead; returns how many were replaced.

        Args:
            everyone: if one is dead replace all: a weight transfer that broke off leaves the others half loaded.

        Raises:
            RunStopped: engines died too often.
        """
        causes = await asyncio.gather(*(slot.cause_of_death() for slot in self.slots))
        if not any(causes):
            return 0
        doomed = [(slot, cause) for slot, cause in zip(self.slots, causes, strict=True) if cause or everyone]
        for slot, cause in doomed:
            await slot.replace(slot.handle, cause or "half loaded by a weight sync that broke off")
        return len(doomed)

    def unfinished(self) -> list[str]:
        """What is waited for: engines that are started in a dead one's place, and rollouts, `group#attempt/index`."""
        engines = [f"a new engine {slot.number}" for slot in self.slots if slot.is_replacing]
        return engines + [f"rollout {key}/{index}" for key, index in sorted(self._unfinished)]

    def processes(self) -> dict[str, int]:
        """The engines' processes on this host: `engine0-actor`, `engine0-core-PID`, `engine0-worker-PID`, others."""
        return {name: pid for slot in self.slots for name, pid in slot.processes().items()}

    def kill_engines(self) -> bool:
        """End all engines by force if rollouts wait for them, and get new ones; False if the engines are idle."""
        if not self._unfinished:
            return False
        for slot in self.slots:
            slot.kill()
        return True

    @property
    def is_replacing(self) -> bool:
        """Whether an engine is being started in a dead one's place."""
        return any(slot.is_replacing for slot in self.slots)

    async def versions(self) -> list[int]:
        """The policy version of each engine."""
        return list(await asyncio.gather(*(handle.version.remote() for handle in self.handles)))

    async def sample(self, requests: Sequence[GroupRequest], sink: GroupSink | None = None) -> list[Group]:
        """Sample all groups; finished rollouts go to the sink at once.

        Raises:
            RunStopped: engines died too often, or the judge's budget is spent.
        """
        return await all_or_none(self._sample_group(request, sink) for request in requests)

    async def _sample_group(self, request: GroupRequest, sink: GroupSink | None) -> Group:
        engine = min(range(len(self.slots)), key=lambda index: (self._outstanding[index], index))
        self._outstanding[engine] += len(request.seeds)
        try:
            if sink is not None:
                await sink.open(request.key, request.prompt, len(request.seeds))
            prompt_ref = ray.put(request.prompt_token_ids)
            rollouts = await all_or_none(
                self._sample_rollout(engine, request, prompt_ref, index, sink) for index in range(len(request.seeds))
            )
            if sink is not None:
                await sink.close(request.key)
        finally:
            self._outstanding[engine] -= len(request.seeds)
        return Group(
            key=request.key,
            prompt=request.prompt,
            prompt_token_ids=request.prompt_token_ids,
            rollouts=tuple(rollouts),
        )

    async def _sample_rollout(
        self, engine: int, request: GroupRequest, prompt_ref: Any, index: int, sink: GroupSink | None
    ) -> Rollout | None:
        self._unfinished.add((request.key, index))
        try:
            answer = await self._sample_answer(self.slots[engine], request, prompt_ref, index)
        finally:
            self._unfinished.discard((request.key, index))
        if answer is None:
            self.stats = replace(self.stats, rollouts_lost=self.stats.rollouts_lost + 1)
            return None
        rollout = make_rollout(request, index, answer, self._parse(request, answer))
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

    def _parse(self, request: GroupRequest, answer: SampledAnswer) -> ParsedAnswer:
        parsed = self.parse(request.prompt, answer.text)
        if not parsed.spans:
            return parsed
        if self.tokenizer is None:
            raise ValueError("answers with segments need the pool's tokenizer")
        return locate_segments(
            parsed,
            answer.text,
            tokenizer=self.tokenizer,
            prompt_token_ids=request.prompt_token_ids,
            token_ids=answer.token_ids,
        )

    async def _sample_answer(
        self, slot: EngineSlot, request: GroupRequest, prompt_ref: Any, index: int
    ) -> SampledAnswer | None:
        """The answer, sampled again with the same seed if the engine dies on the way; None past the deadline."""
        while True:
            handle = slot.handle
            reply = handle.sample.remote(prompt_ref, request.seeds[index], request.sampling)
            try:
                return cast(SampledAnswer, await asyncio.wait_for(reply, self.deadline_s))
            except TimeoutError:
                ray.cancel(reply)
                return None
            except asyncio.CancelledError:
                ray.cancel(reply)  # a run that goes on, as one does that is asked to stop, needs an idle engine
                raise
            except (RayTaskError, *DEAD) as error:
                if (cause := cause_of_death(error)) is None:
                    raise
                await slot.replace(handle, cause)


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
