"""Where a run comes from: commit, package versions, command and kind of host."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def provenance(*, seed: int, command: Sequence[str], started: datetime) -> dict[str, Any]:
    """Plain JSON values. `git` is None where the code was not imported from a checkout."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "command": list(command),
        "seed": seed,
        "git": git_state(Path(__file__).resolve().parent.parent),
        "packages": dict(sorted((dist.name, dist.version) for dist in metadata.distributions() if dist.name)),
        "host": {
            "system": platform.system(),
            "machine": platform.machine(),
            "python": sys.version.split()[0],
            "cpus": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "gpus": gpu_names(),
        },
    }


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of a checkout; None if `checkout` is not the root of one or git is not installed."""
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return None
    commit = _output("git", "-C", str(checkout), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(checkout), "status", "--porcelain")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def gpu_names() -> list[str]:
    """What `nvidia-smi` lists; empty without it."""
    if shutil.which("nvidia-smi") is None:
        return []
    listing = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return listing.splitlines() if listing else []


def _output(*command: str) -> str | None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
