"""What every command that starts actors needs: Ray, joined or started, and signals that end it in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from recipes.schema import Recipe

OBJECT_STORE_BYTES = 1024**3


@contextmanager
def ray_session(recipe: Recipe) -> Iterator[None]:
    """Join the cluster that the recipe or $RAY_ADDRESS names, or start a private one that ends with us."""
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
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def signals_cancel() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does: by cancelling its task, so that everything started is stopped."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
