"""Whole runs as a user starts them: `podium ...` in a process of its own, everything real, on a tiny model."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from launch.run_dir import RunDir

RECIPE = Path(__file__).parent / "data" / "tiny.yaml"
ROOT = Path(__file__).parents[2]


def podium(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "launch.cli", *arguments]


def settings(model: Path, storage: Path, *more: str) -> list[str]:
    values = [f"model.path={model}", f"launch.storage={storage}", *more]
    return [word for value in values for word in ("--set", value)]


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return env | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def our_processes(run_mark: str) -> list[str]:
    """Processes that carry this run's mark in their environment: everything that the run started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PODIUM_TEST_MARK") == run_mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


def left_in_shared_memory(before: set[str], seconds: float = 5.0) -> set[str]:
    """New files that no living process uses: those of a run that is gone, not those of a neighbour on this machine."""
    deadline = time.monotonic() + seconds
    while (left := _unused(shared_memory() - before)) and time.monotonic() < deadline:
        time.sleep(0.5)  # a neighbour's may be made and not yet mapped
    return left


def _unused(names: set[str]) -> set[str]:
    mapped: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            mapped |= {line.split(maxsplit=5)[4] for line in maps.read_text().splitlines()}
    unused = set()
    for name in names:
        with suppress(FileNotFoundError):
            # The Intel OpenMP runtime registers each process under its id and maps nothing.
            owner = re.search(r"__KMP_REGISTERED_LIB_(\d+)_", name)
            used = psutil.pid_exists(int(owner[1])) if owner else str(Path("/dev/shm", name).stat().st_ino) in mapped
            if not used:
                unused.add(name)
    return unused


def wait_until_gone(run_mark: str, seconds: float = 30.0) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := our_processes(run_mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def start(
    arguments: list[str],
    *,
    kill: tuple[str, int] | None = None,
    code: int = 0,
    lent: Mapping[str, str] | None = None,
    timeout_s: float = 600.0,
) -> subprocess.CompletedProcess[str]:
    """Run podium to its end, or under tests/e2e/killer.py to its end at a place and a step; nothing of it is left.

    Args:
        code: what the process must end with; it is -SIGKILL where `kill` ends it so.
        lent: of tests/e2e/on_stage.py, for a run on engines that are there.
    """
    before, mark = shared_memory(), uuid.uuid4().hex
    command = podium(*arguments)
    if lent is not None and kill is None:
        kill = ("nowhere", 0)
    if kill is not None:
        command = [sys.executable, "-m", "tests.e2e.killer", kill[0], str(kill[1]), *arguments]
        code = -signal.SIGKILL if kill[0] in ("judge", "learn", "checkpoint", "sft") else code
    env = environment() | {"PODIUM_TEST_MARK": mark, **(lent or {})}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-6000:]
    assert wait_until_gone(mark) == []
    assert left_in_shared_memory(before) == set()
    return done


def only_run(storage: Path) -> RunDir:
    (path,) = (entry for entry in storage.iterdir() if entry.is_dir())
    return RunDir.open(path)


def weights_of(run: RunDir, step: int) -> dict[str, str]:
    """Hash of every file of a checkpoint that holds weights or optimizer state."""
    folder = run.checkpoint_path(step)
    files = sorted([*folder.glob("hf/*.safetensors"), *folder.glob("deepspeed/**/*optim_states.pt")])
    assert len(files) >= 2
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def tokens_of(run: RunDir, step: int) -> list[list[list[int] | None]]:
    groups, _ = run.load_groups(step)
    return [[rollout and rollout.token_ids.tolist() for rollout in group.rollouts] for group in groups]
