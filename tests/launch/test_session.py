"""Ray as a run starts it, beside somebody who fills shared memory, and one who sends signals."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

START = """
import os
import numpy as np
import ray
from launch import session

class Launch:
    ray_address = None

class Recipe:
    launch = Launch

session.OBJECT_STORE_BYTES = 100 * 2**20
"""

FILL = """

@ray.remote(num_cpus=0)
def total(numbers):
    return numbers.sum()

with session.ray_session(Recipe):
    filler = os.open("/dev/shm/filler", os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(filler, bytes(2**20))
    except OSError as error:
        print(error.strerror)
    print(ray.get(total.remote(ray.put(np.ones(5_000_000)))))
"""

TERM = """
import asyncio, signal

async def main():
    heard = []
    with session.signals_cancel(lambda: heard.append("heard") is None), session.ray_session(Recipe):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
    print(heard)

asyncio.run(main())
"""


@pytest.mark.slow
def test_groups_still_travel_when_shared_memory_fills_up_in_the_middle_of_a_run() -> None:
    """Without its pages from the start, Ray would die of it, and the run with it, without a word."""
    mount = "mount -t tmpfs -o size=300m tmpfs /dev/shm"
    private = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], capture_output=True).returncode != 0:
        pytest.skip("a private /dev/shm of a test needs root and unshare")
    done = subprocess.run([*private, sys.executable, "-c", START + FILL], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[:2] == ["No space left on device", "5000000.0"]


@pytest.mark.slow
def test_sigterm_reaches_the_run_and_not_rays_own_handler() -> None:
    done = subprocess.run([sys.executable, "-c", START + TERM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "['heard']\n"), done.stderr[-3000:]
    assert "SIGTERM" not in done.stderr
