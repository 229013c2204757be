"""What the `sft` section of a recipe means on this machine: rows counted, memory estimated, nothing started."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from launch.machine import Device
from launch.memory import LEARNER_PROCESS_GIB, MemoryItem, learner_items, total_gib
from launch.sft_data import read_rows
from launch.sources import MAX_READ_BYTES, num_lines
from recipes.load import LoadedRecipe
from recipes.messages import Fault
from rewards.errors import UserError
from rl.sft_config import SFTConfig
from rl.sft_schedule import num_sft_steps
from rollouts.models import ModelFacts


@dataclass(frozen=True, slots=True)
class SFTPlan:
    """num_rows: to learn from. Rows that are too long are found when the tokenizer is loaded, not here."""

    num_rows: int
    num_heldout: int
    rows_per_step: int
    num_steps: int
    max_tokens: int
    learner_ranks: int
    zero_stage: int
    memory: tuple[MemoryItem, ...]
    memory_gib: float


def plan_sft(
    loaded: LoadedRecipe,
    config: SFTConfig,
    model: ModelFacts,
    device: Device,
    num_gpus: int | None,
    faults: list[Fault],
) -> SFTPlan | None:
    """None where the rows cannot be read; `faults` gets one per thing that is wrong.

    Args:
        num_gpus: that can be seen here; None for a cluster elsewhere.
    """
    if device == "cuda" and num_gpus is not None and config.learner.ranks > num_gpus:
        rule = f"needs {config.learner.ranks} GPUs and {num_gpus} can be seen; use fewer, or a cluster"
        faults.append(loaded.fault(("sft", "learner", "ranks"), rule))
    if model.max_context is not None and config.max_tokens > model.max_context:
        faults.append(
            loaded.fault(("sft", "max_tokens"), f"the model's own context is {model.max_context} tokens; lower it")
        )
    try:
        num_rows, num_heldout = _count(config, seed=loaded.recipe.seed)
    except UserError as error:
        faults += [loaded.fault(("sft", "data"), line) for line in str(error).splitlines()]
        return None
    memory = learner_items(config.learner, model, has_reference=False)
    if device == "cpu":
        memory.append(MemoryItem("processes", config.learner.ranks * LEARNER_PROCESS_GIB))
    return SFTPlan(
        num_rows=num_rows,
        num_heldout=num_heldout,
        rows_per_step=config.rows_per_step,
        num_steps=num_sft_steps(config, num_rows),
        max_tokens=config.max_tokens,
        learner_ranks=config.learner.ranks,
        zero_stage=config.learner.zero_stage,
        memory=tuple(memory),
        memory_gib=total_gib(memory),
    )


def _count(config: SFTConfig, *, seed: int) -> tuple[int, int]:
    """Rows to learn from and held-out ones; of large files the lines."""
    names = [config.data] + ([config.heldout_data] if config.heldout_data is not None else [])
    files = [Path(name) for name in names]
    if sum(file.stat().st_size for file in files if file.is_file()) <= MAX_READ_BYTES:
        train, heldout = read_rows(config, seed=seed)
        return len(train), len(heldout)
    if config.heldout_data is not None:
        return num_lines(files[:1]), num_lines(files[1:])
    total = num_lines(files)
    heldout = math.ceil(config.share * total)
    return total - heldout, heldout
