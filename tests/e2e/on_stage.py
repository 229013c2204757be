"""Whole runs on the session's engine: their own process, ranks, judge and run directory, and no engine start.

test --lend(handles)--> Lender, a named actor of the session's Ray <--asks for the engine-- podium, under killer.py

The engine gets the weights of the run's starting model first, as one does that has just loaded it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from launch import compose
from rollouts.engine_slot import left_by
from rollouts.pool import EnginePool

ADDRESS, NAMESPACE = "PODIUM_TEST_STAGE", "PODIUM_TEST_STAGE_NAMESPACE"
NAME = "lender"


class Lender:
    def __init__(self, handles: Sequence[Any]) -> None:
        self._handles = list(handles)

    def handles(self) -> list[Any]:
        return self._handles


@contextmanager
def lend(handles: Sequence[Any]) -> Iterator[dict[str, str]]:
    """Environment variables for a process that is to run on these engines."""
    lender: Any = ray.remote(Lender).options(name=NAME, num_cpus=0).remote(handles)
    ray.get(lender.handles.remote())
    context = ray.get_runtime_context()
    # Ray says here whether it asks for a token; the token itself every process of this user finds.
    mode = {name: value for name, value in os.environ.items() if name == "RAY_AUTH_MODE"}
    try:
        yield {ADDRESS: context.gcs_address, NAMESPACE: context.namespace, **mode}
    finally:
        ray.kill(lender)


class StagePool(EnginePool):
    """The pool of a run whose engines are lent: they are not started, and not ended with the run."""

    async def start(self) -> None:
        lender: Any = ray.get_actor(NAME, namespace=os.environ[NAMESPACE])
        for slot, handle in zip(self.slots, await lender.handles.remote(), strict=True):
            slot.handle = handle
            slot._footprint, slot._pids = await left_by(handle)
        await asyncio.to_thread(self._load, self.specs[0].model)

    def _load(self, model_dir: str) -> None:
        send_weights(self.handles, load_model(model_dir), 0)

    async def stop(self) -> None:
        for slot in self.slots:
            slot.handle = None


def load_model(model_dir: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)


def send_weights(handles: Sequence[Any], model: Any, version: int) -> None:
    """Bring engines to a model's weights, verified, under a version."""
    import torch

    from rl.weights import WeightSender

    sender = WeightSender(model, dtype=torch.float32, backend="shm", rank=0)
    try:
        sender.send(handles, version, verify=True)
    finally:
        sender.close()


def arm() -> None:
    """In the process of the run, where its environment says that engines are lent to it."""
    if ADDRESS in os.environ:
        os.environ["RAY_ADDRESS"] = os.environ[ADDRESS]
        compose.EnginePool = StagePool
