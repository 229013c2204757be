"""The janitor on real processes and real files in shared memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from rollouts.janitor import SHARED_MEMORY, Footprint, footprint_of, sweep

ENGINE = """
import os, sys, time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from rollouts.janitor import Janitor, footprint_of
memory = SharedMemory(create=True, size=64)
resource_tracker.unregister(memory._name, "shared_memory")  # as if Python's own cleaner had been killed as well
left = footprint_of([os.getpid()])
open(f"/dev/shm/__KMP_REGISTERED_LIB_{os.getpid()}_0", "w").close()
janitor = Janitor(left)
print(memory.name, flush=True)
time.sleep(60)
"""


def wait_until(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_what_a_killed_engine_leaves_is_taken_away_and_nobody_stays() -> None:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PODIUM_TEST_MARK": "janitor"}
    engine = subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE, text=True, env=env)
    assert engine.stdout is not None
    files = [SHARED_MEMORY / engine.stdout.readline().strip().removeprefix("/")]
    files.append(SHARED_MEMORY / f"__KMP_REGISTERED_LIB_{engine.pid}_0")
    assert all(file.exists() for file in files)
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    assert wait_until(lambda: not any(file.exists() for file in files))
    assert wait_until(lambda: not janitors())


def janitors() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"PODIUM_TEST_MARK=janitor" in environ:
            found.append(int(folder.name))
    return found


def test_a_footprint_names_the_processes_and_the_shared_memory_that_they_have_mapped() -> None:
    memory = SharedMemory(create=True, size=64)
    before = set(SHARED_MEMORY.glob("sem.mp-*"))
    lock = multiprocessing.get_context("spawn").Lock()
    (semaphore,) = set(SHARED_MEMORY.glob("sem.mp-*")) - before
    try:
        left = footprint_of([os.getpid()])
        assert left.pids == (os.getpid(),)
        assert str(SHARED_MEMORY / memory.name.removeprefix("/")) in left.shared_memory
        assert str(semaphore) in left.shared_memory
        assert lock is not None
    finally:
        memory.close()
        memory.unlink()


def test_what_vanishes_while_it_is_looked_at_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    memory = SharedMemory(create=True, size=64)
    vanished = SHARED_MEMORY / f"psm_vanished_{os.getpid()}"
    listed = [*SHARED_MEMORY.iterdir(), vanished]
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(listed))
    try:
        left = footprint_of([ended.pid, os.getpid()])
    finally:
        memory.close()
        memory.unlink()
    assert left.pids == (ended.pid, os.getpid())
    assert str(SHARED_MEMORY / memory.name.removeprefix("/")) in left.shared_memory
    assert str(vanished) not in left.shared_memory


def test_sweeping_touches_no_other_process() -> None:
    other = SHARED_MEMORY / f"__KMP_REGISTERED_LIB_{os.getpid()}1_0"
    other.touch()
    try:
        sweep(Footprint("host", (os.getpid(),), ()))
        assert other.exists()
    finally:
        other.unlink()
