"""What `podium doctor` looks at, gathered in one place so that the checks themselves are pure."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launch.locks import Platform, canonical, platform_of, read_lock
from launch.machine import GIB, Machine, read_machine
from rollouts.engine import openmp_library
from rollouts.models import cache_dir

OUR_PACKAGES = ("rewards", "rollouts", "rl", "recipes", "launch")
VISION_PACKAGES = ("torchvision", "torchaudio", "torchcodec")
ENGINE_NAMES = ("raylet", "gcs_server", "VLLM::", "ray::")
"""How the processes of a run call themselves."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that a run writes to, and the file system under it."""

    purpose: str
    path: str
    free_gib: float
    writable: bool


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine, the Python environment and what runs on it, as found.

    installed: canonical distribution name -> version. broken_imports: vision packages that fail to import -> reason.
    origins: our package -> folder that Python would import it from. owners: our package -> distributions that claim it.
    leftovers: processes of ours that look like a run's engines. shm_files: files in /dev/shm of this user -> bytes.
    """

    python: tuple[int, int]
    platform: Platform
    machine: Machine
    num_cpus: int
    installed: Mapping[str, str]
    lock: Mapping[str, str] | None
    our_root: str
    origins: Mapping[str, str | None]
    owners: Mapping[str, tuple[str, ...]]
    folders: tuple[Folder, ...]
    tools: Mapping[str, str | None]
    has_nvidia_smi: bool = False
    omp_threads: str | None = None
    openmp: str | None = None
    broken_imports: Mapping[str, str] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()
    shm_files: Mapping[str, int] = field(default_factory=dict)


def read_environment(storage: str = "runs") -> Environment:
    """Looks at everything; imports nothing heavy and starts no more than `python -c import` for vision packages."""
    machine = read_machine()
    installed = {canonical(dist.name): dist.version for dist in importlib.metadata.distributions() if dist.name}
    platform = platform_of(installed, has_gpu=bool(machine.gpus))
    claims = importlib.metadata.packages_distributions()
    library = openmp_library()
    scratch = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    places = (("runs", storage), ("models", str(cache_dir())), ("temporary files of Ray", scratch))
    return Environment(
        python=sys.version_info[:2],
        platform=platform,
        machine=machine,
        num_cpus=os.cpu_count() or 1,
        installed=installed,
        lock=read_lock(platform),
        our_root=str(Path(__file__).resolve().parent.parent),
        origins={name: _origin(name) for name in OUR_PACKAGES},
        owners={name: tuple(sorted({canonical(owner) for owner in claims.get(name, ())})) for name in OUR_PACKAGES},
        folders=tuple(_folder(purpose, path) for purpose, path in places),
        tools={name: shutil.which(name) or _beside_python(name) for name in ("g++", "ninja")},
        has_nvidia_smi=shutil.which("nvidia-smi") is not None,
        omp_threads=os.environ.get("OMP_NUM_THREADS"),
        openmp=str(library) if library else None,
        broken_imports=_broken([name for name in VISION_PACKAGES if name in installed]),
        leftovers=_leftovers(),
        shm_files=_shm_files(),
    )


def _origin(package: str) -> str | None:
    """The folder that holds the package Python finds first, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    inside = Path(place).resolve()
    return str(inside.parent.parent if spec.origin and spec.submodule_search_locations is not None else inside.parent)


def _beside_python(name: str) -> str | None:
    """A tool that pip installed into this environment, whether it is activated or not."""
    return shutil.which(name, path=str(Path(sys.executable).parent))


def _folder(purpose: str, path: str) -> Folder:
    """Sizes of the nearest folder that exists already; a run makes the rest."""
    place = Path(path).expanduser().absolute()
    existing = next(folder for folder in (place, *place.parents) if folder.is_dir())
    return Folder(purpose, str(place), shutil.disk_usage(existing).free / GIB, os.access(existing, os.W_OK))


def _broken(packages: list[str]) -> dict[str, str]:
    broken: dict[str, str] = {}
    for package in packages:
        command = [sys.executable, "-c", f"import {package}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            broken[package] = "no answer in two minutes"
            continue
        if done.returncode:
            broken[package] = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
    return broken


def _leftovers() -> tuple[str, ...]:
    """`pid name` of this user's processes that look like Ray's or vLLM's."""
    found: list[str] = []
    for folder in sorted(Path("/proc").glob("[0-9]*")):
        try:
            mine = folder.stat().st_uid == os.getuid()
            title = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or is hidden from us
        program = os.path.basename(title.split(" ")[0])
        if mine and program.startswith(ENGINE_NAMES):
            found.append(f"{folder.name} {program}")
    return tuple(found)


def _shm_files() -> dict[str, int]:
    if not os.path.isdir("/dev/shm"):
        return {}
    files: dict[str, int] = {}
    with os.scandir("/dev/shm") as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            if entry.is_file(follow_symlinks=False) and facts.st_uid == os.getuid():
                files[entry.name] = facts.st_size
    return files
