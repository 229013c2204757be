"""What this machine has: cores, memory, shared memory, GPUs. Read from the system, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GIB = 1024**3

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_gib: float


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes in GiB. cores: those this process may run on. memory_free_gib: what the kernel could hand out now."""

    cores: int
    memory_gib: float
    memory_free_gib: float
    shm_gib: float
    shm_free_gib: float
    gpus: tuple[Gpu, ...] = ()


def read_machine() -> Machine:
    memory = _meminfo(Path("/proc/meminfo"))
    shm = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None
    limit = _cgroup_limit()
    total = memory.get("MemTotal", 0)
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=min(total, limit or total) / GIB,
        memory_free_gib=min(memory.get("MemAvailable", 0), limit or total) / GIB,
        shm_gib=shm.total / GIB if shm else 0.0,
        shm_free_gib=shm.free / GIB if shm else 0.0,
        gpus=visible(_gpus(), os.environ),
    )


def resolve_device(wanted: Literal["auto", "cpu", "cuda"], machine: Machine) -> Device:
    """`auto` is cuda where there is a GPU to be seen, else cpu."""
    if wanted == "auto":
        return "cuda" if machine.gpus else "cpu"
    return wanted


def visible(gpus: Sequence[Gpu], env: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves: CUDA stops reading at the first entry that it does not know."""
    chosen = env.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(gpus)
    kept: list[Gpu] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if entry.startswith(("GPU-", "MIG-")) and len(kept) < len(gpus):
            kept.append(gpus[len(kept)])
        elif entry.isdecimal() and int(entry) < len(gpus):
            kept.append(gpus[int(entry)])
        else:
            break
    return tuple(kept)


def parse_gpus(listing: str) -> tuple[Gpu, ...]:
    """Lines `name, MiB` of nvidia-smi; lines that it could not fill in are left out."""
    rows = (line.rsplit(",", 1) for line in listing.splitlines() if "," in line)
    return tuple(Gpu(name.strip(), int(mib) / 1024) for name, mib in rows if mib.strip().isdecimal())


def _gpus() -> tuple[Gpu, ...]:
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return parse_gpus(done.stdout) if done.returncode == 0 else ()


def _meminfo(file: Path) -> dict[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    if not file.is_file():
        return {}
    rows = (line.split() for line in file.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) >= 2}


def _cgroup_limit() -> int | None:
    """Memory that a container may use, in bytes; None without a limit."""
    for file in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if file.is_file():
            text = file.read_text().strip()
            return int(text) if text.isdecimal() else None
    return None
