"""Your own task, named by import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewards.errors import UserError
from rewards.importing import check_takes, import_target
from rollouts.config import PythonTask
from rollouts.types import Task

_METHODS = ("train_prompts", "heldout_prompts", "parse")


def build_python(config: PythonTask, seed: int, base_dir: Path) -> Task:
    """Call `target` with the recipe's options as keyword arguments. What it raises passes through."""
    make = import_target(config.target)
    if not callable(make):
        raise UserError(f"task.target {config.target!r} is no class or function; give one that makes a task")
    check_takes(f"task.target {config.target!r}", make, **config.options)
    task: Any = make(**config.options)
    missing = [name for name in _METHODS if not callable(getattr(task, name, None))]
    if missing:
        raise UserError(
            f"task.target {config.target!r} gave {type(task).__name__} without {', '.join(missing)}; "
            "see Task in rollouts/types.py"
        )
    return task
