"""What every command that starts actors needs: Ray, joined or started, and signals that end it in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from recipes.reward import RewardRecipe
from recipes.schema import Recipe

OBJECT_STORE_BYTES = 1024**3


@contextmanager
def ray_session(recipe: Recipe | RewardRecipe) -> Iterator[None]:
    """Join the cluster that the recipe or $RAY_ADDRESS names, or start a private one that ends with us."""
    on_term = signal.getsignal(signal.SIGTERM)
    address = recipe.launch.ray_address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            object_store_memory=OBJECT_STORE_BYTES,
            # Else its pages are taken as they are needed, and a full /dev/shm kills Ray in the middle of a step.
            _system_config={"preallocate_plasma_memory": True},
        )
    # Ray has put a handler of its own there, which ends this process at once.
    signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def signals_cancel(stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """SIGTERM asks `stop` to end the work in good order; where it says False, the task is cancelled, as by Ctrl-C."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def on_term() -> None:
        if not stop():
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
