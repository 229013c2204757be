"""Cleans up after an engine, however it ended: a process that outlives it by a moment.

    engine actor --footprint, one JSON line--> janitor (its own session, child of nobody)
         |                                        |
         +-- ends, also by SIGKILL: pipe closes --+--> waits for the engine's processes --> takes their files away

A process that is killed cannot take its shared memory back, and vLLM's own cleaner is killed with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
KINDS = ("psm_", "sem.mp-")
"""Python's shared memory and semaphores."""
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """An engine's processes and its files in shared memory, on the host that it runs on."""

    host: str
    pids: tuple[int, ...]
    shared_memory: tuple[str, ...]


def footprint_of(pids: Sequence[int]) -> Footprint:
    """What these processes of this host would leave behind if they were killed now."""
    mapped: set[int] = set()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                _, _, _, _, inode, *name = line.split(maxsplit=5)
                if name and name[0].startswith(f"{SHARED_MEMORY}/"):
                    mapped.add(int(inode))
    # By inode: a semaphore is mapped under the name that it had before it got its own.
    files: list[str] = []
    for path in SHARED_MEMORY.iterdir():
        with suppress(FileNotFoundError):  # somebody took it away while we looked
            if path.name.startswith(KINDS) and path.stat().st_ino in mapped:
                files.append(str(path))
    return Footprint(os.uname().nodename, tuple(pids), tuple(sorted(files)))


def sweep(left: Footprint) -> None:
    """Take away what processes that are gone left in this host's shared memory."""
    for pid in left.pids:
        # The Intel OpenMP runtime registers each process under its id.
        for path in SHARED_MEMORY.glob(f"__KMP_REGISTERED_LIB_{pid}_*"):
            path.unlink(missing_ok=True)
    for name in left.shared_memory:
        Path(name).unlink(missing_ok=True)


class Janitor:
    """A cleaner for this process's engine. It goes to work when this object's process ends, or `dismiss` is called."""

    def __init__(self, left: Footprint) -> None:
        command = [sys.executable, "-m", "rollouts.janitor"]
        self._starter = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        assert self._starter.stdin is not None
        self._pipe = self._starter.stdin
        self._pipe.write(json.dumps(asdict(left)) + "\n")
        self._pipe.flush()
        self._starter.wait()  # it leaves the janitor behind, as nobody's child

    def dismiss(self) -> None:
        self._pipe.close()


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def main() -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    line = sys.stdin.readline()
    if not line:
        return
    fields = json.loads(line)
    left = Footprint(fields["host"], tuple(fields["pids"]), tuple(fields["shared_memory"]))
    sys.stdin.read()  # until the engine's end
    deadline = time.monotonic() + PATIENCE_S
    while not all(_gone(pid) for pid in left.pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    if all(_gone(pid) for pid in left.pids):
        sweep(left)


if __name__ == "__main__":
    main()
