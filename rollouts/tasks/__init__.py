"""Tasks make prompts and parse answers: one file per kind, its config in `rollouts/config.py`, its builder here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rollouts.config import TaskConfig
from rollouts.tasks.freeform import build_freeform
from rollouts.tasks.python import build_python
from rollouts.tasks.slate_rank import build_slate_rank
from rollouts.types import Task

BUILDERS: Mapping[str, Callable[[Any, int, Path], Task]] = MappingProxyType(
    {"freeform": build_freeform, "slate_rank": build_slate_rank, "python": build_python}
)


def build_task(config: TaskConfig, seed: int, base_dir: Path) -> Task:
    """The task of a recipe, its prompts read and split.

    Args:
        seed: the run's; draws the held-out prompts.
        base_dir: where relative paths start (the recipe's folder).

    Raises:
        UserError: prompts or plug-in are at fault.
    """
    return BUILDERS[config.kind](config, seed, base_dir)
