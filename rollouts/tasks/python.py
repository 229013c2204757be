"""Your own task, named by import path."""

from __future__ import annotations

from pathlib import Path

from rewards.errors import UserError
from rewards.importing import import_target
from rollouts.config import PythonTask
from rollouts.types import Task

_METHODS = ("train_prompts", "heldout_prompts", "parse")


def build_python(config: PythonTask, seed: int, base_dir: Path) -> Task:
    """Call `target` with the recipe's options as keyword arguments. What it raises passes through."""
    task = import_target(config.target)(**config.options)
    missing = [name for name in _METHODS if not callable(getattr(task, name, None))]
    if missing:
        raise UserError(
            f"task.target {config.target!r} gave {type(task).__name__} without {', '.join(missing)}; "
            "see Task in rollouts/types.py"
        )
    return task
