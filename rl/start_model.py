"""The weights that `rl.init_from` names: inside a run, inside a checkpoint, or a model directory. Needs no torch."""

from __future__ import annotations

import re
from pathlib import Path

from rewards.errors import UserError

MODEL = "hf"
"""Folder of a checkpoint with the policy in the Hugging Face layout."""


def start_directory(path: str | Path) -> Path:
    """The model directory that `path` stands for; of a run, that of its last checkpoint.

    Raises:
        UserError: there is nothing to start from at `path`.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"rl.init_from: {folder}: no such directory; give a run, a checkpoint or a model directory")
    if (folder / "recipe.json").is_file():
        steps = _checkpoint_steps(folder / "checkpoints")
        if not steps:
            raise UserError(f"rl.init_from: run {folder} has no checkpoint yet; let `podium sft` finish first")
        folder = folder / "checkpoints" / f"step_{steps[-1]}"
    if (folder / MODEL).is_dir():
        folder = folder / MODEL
    if not (folder / "config.json").is_file():
        raise UserError(
            f"rl.init_from: {folder} is no run, no checkpoint and no model directory (no recipe.json, {MODEL}/ or "
            "config.json in it)"
        )
    return folder


def _checkpoint_steps(folder: Path) -> list[int]:
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(found[1]) for name in names if (found := re.fullmatch(r"step_(\d+)", name)))
