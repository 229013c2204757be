"""An environment for each of the trainers that podium's rewards can serve, as `test_adapters.py` looks for them.

    python -m tests.peers.environments FOLDER      makes them, a minute or two
    PODIUM_PEERS=FOLDER python -m pytest tests/peers -m slow

Each has the trainer itself, from the package index, and what podium's own environment lacks of what it imports there;
torch, transformers and the rest come from podium's. OpenRLHF and verl ask for flash-attn, CUDA wheels or other versions
of ray and vllm, none of which their reward clients touch: hence no dependencies of theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

VARIABLE = "PODIUM_PEERS"
MAKE = "python -m tests.peers.environments FOLDER"

PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "trl": ("trl==1.16.0",),
        "verl": (
            "verl==0.9.1",
            "tensordict==0.15.3",
            "torchdata==0.11.0",
            "hydra-core==1.3.8",
            "omegaconf==2.4.0",
            "antlr4-python3-runtime==4.9.3",
            "codetiming==1.4.0",
            "orjson==3.13.0",
            "pyvers==0.2.3",
        ),
        "openrlhf": ("openrlhf==0.11.2", "pylatexenc==2.11"),
    }
)


def python_of(folder: Path, trainer: str) -> Path:
    return folder / trainer / "bin" / "python"


def found(trainer: str) -> Path:
    """Its python. Raises LookupError, with what to do about it, where there is none."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise LookupError(f"{VARIABLE} is not set: make the trainers' environments with `{MAKE}` and set it to FOLDER")
    python = python_of(Path(folder), trainer)
    if not python.is_file():
        raise LookupError(f"{VARIABLE}={folder} has no {trainer}: make it with `{MAKE}`")
    return python


def make(folder: Path, trainer: str) -> None:
    venv.create(folder / trainer, with_pip=True, clear=True)
    python = python_of(folder, trainer)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    # After the environment's own folder, so that what it has of its own wins.
    Path(site, "podium.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES[trainer]], check=True)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {MAKE}")
    for trainer in PACKAGES:
        make(Path(sys.argv[1]).absolute(), trainer)
        print(f"{trainer}: {python_of(Path(sys.argv[1]).absolute(), trainer)}")


if __name__ == "__main__":
    main()
