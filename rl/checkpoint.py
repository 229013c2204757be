"""A checkpoint on disk: whole, verified, or not there at all.

step_N.tmp/ <- every rank writes its part -> manifest.json -> fsync -> rename to step_N/

step_N/  deepspeed/state/   masters, Adam moments (one file per rank), written by DeepSpeed
         hf/                the policy in the Hugging Face layout, for export
         rng/rank_I.pt      random states of python, numpy and torch
         state.json         step of the learner; of the trainer: step (prompts and seeds follow from it and the run's
                            seed), the aggregator's prior, judge calls, seconds by phase, where the judge's cache lies
         manifest.json      size and sha256 of every file above, versions, number of ranks
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rewards.errors import RunStopped, UserError
from rl.start_model import MODEL

MANIFEST = "manifest.json"
STATE = "state.json"
PACKAGES = ("torch", "deepspeed", "transformers")
CURE = "delete this folder, then a resumed run goes on from the one before"


def begin(path: Path) -> Path:
    """An empty folder beside `path` to write into."""
    partial = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def commit(
    path: Path, *, state: Mapping[str, Any], num_ranks: int, zero_stage: int, lora: Mapping[str, Any] | None = None
) -> None:
    """Seal what was written beside `path` and give it its name; replaces an older checkpoint of that name."""
    partial = path.with_name(f"{path.name}.tmp")
    (partial / STATE).write_text(json.dumps(dict(state), indent=1, allow_nan=False))
    manifest = {
        "num_ranks": num_ranks,
        "zero_stage": zero_stage,
        "lora": lora,
        "versions": {package: version(package) for package in PACKAGES},
        "files": {name: _fingerprint(partial / name) for name in _files(partial)},
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for name in [*manifest["files"], MANIFEST]:
        _sync(partial / name)
    for folder in [partial, *(entry for entry in partial.rglob("*") if entry.is_dir())]:
        _sync(folder)
    if path.exists():
        old = path.with_name(f"{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        partial.rename(path)
        shutil.rmtree(old)
    else:
        partial.rename(path)
    _sync(path.parent)


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written.

    Raises:
        UserError: there is no checkpoint at `path`.
        RunStopped: a file is missing or damaged.
    """
    if not path.is_dir():
        raise UserError(f"{path}: there is no checkpoint here")
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files: dict[str, dict[str, Any]] = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        raise RunStopped(f"checkpoint {path} is damaged: {MANIFEST} cannot be read; {CURE}") from error
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise RunStopped(f"checkpoint {path} is damaged: {name} is missing; {CURE}")
        if file.stat().st_size != expected["bytes"] or _fingerprint(file) != expected:
            raise RunStopped(f"checkpoint {path} is damaged: {name} is not what was written; {CURE}")
    return manifest


def check_layout(
    manifest: Mapping[str, Any], *, path: Path, num_ranks: int, zero_stage: int, lora: Mapping[str, Any] | None = None
) -> None:
    """Raises UserError if the checkpoint was written by another arrangement of ranks, or with other adapters."""
    for key, recipe_key, have in (
        ("num_ranks", "rl.learner.ranks", num_ranks),
        ("zero_stage", "rl.learner.zero_stage", zero_stage),
        ("lora", "rl.learner.lora", lora),
    ):
        wrote = manifest.get(key)
        if wrote != have:
            raise UserError(
                f"checkpoint {path} was written with {recipe_key} = {wrote}, this run has {have}; "
                f"set {recipe_key}: {wrote}"
            )


def read_state(path: Path) -> dict[str, Any]:
    return json.loads((path / STATE).read_text())


def export_checkpoint(path: str | Path, out_dir: str | Path) -> Path:
    """Copy a checkpoint's policy, in the Hugging Face layout, to a new folder. Starts no engine.

    Raises:
        UserError: there is no checkpoint, or `out_dir` holds files already.
        RunStopped: the checkpoint is damaged.
    """
    path, out_dir = Path(path), Path(out_dir)
    verify(path)
    if out_dir.exists() and any(out_dir.iterdir()):
        raise UserError(f"{out_dir}: the folder is not empty; choose a new one")
    shutil.copytree(path / MODEL, out_dir, dirs_exist_ok=True)
    return out_dir


# --- random states ----------------------------------------------------------------------------------------------


def save_rng(folder: Path, rank: int) -> None:
    """This process's random states of python, numpy and torch."""
    folder.mkdir(exist_ok=True)
    python_version, python_numbers, gauss_next = random.getstate()
    name, numpy_keys, position, has_gauss, cached = np.random.get_state()
    states: dict[str, Any] = {
        "python": [python_version, list(python_numbers), gauss_next],
        "numpy": [name, torch.from_numpy(np.asarray(numpy_keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    torch.save(states, folder / f"rank_{rank}.pt")


def load_rng(folder: Path, rank: int) -> None:
    states = torch.load(folder / f"rank_{rank}.pt", weights_only=True)
    python_version, python_numbers, gauss_next = states["python"]
    random.setstate((python_version, tuple(python_numbers), gauss_next))
    name, numpy_keys, *rest = states["numpy"]
    np.random.set_state((name, numpy_keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


# --- files ------------------------------------------------------------------------------------------------------


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
