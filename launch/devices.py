"""From a recipe to this machine's devices: CPU or GPUs, engine specs, the weight-sync backend, GPU placement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from recipes.reward import RewardRecipe
from recipes.schema import Recipe
from rewards.judge_config import EngineJudge, RewardModelJudge
from rollouts.config import EngineConfig
from rollouts.engine import EngineSpec, backbone_architecture
from rollouts.models import stored_dtype
from rollouts.pool import share_cores

Device = Literal["cpu", "cuda"]

COLOCATED_ENGINE_SHARE = 0.45
COLOCATED_LEARNER_SHARE = 0.55
"""Parts of a GPU that Ray books for a colocated engine and learner rank; memory is shared out by sleeping instead."""


def resolve_device(recipe: Recipe | RewardRecipe) -> Device:
    """`launch.device`, with `auto` looked up."""
    if recipe.launch.device != "auto":
        return recipe.launch.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def sync_backend(recipe: Recipe, device: Device) -> Literal["shm", "nccl", "ipc"]:
    """`rl.sync.backend`, with `auto` looked up: shm on CPU, ipc where engines share the learner's GPUs, else nccl."""
    if recipe.rl.sync.backend != "auto":
        return recipe.rl.sync.backend
    if device == "cpu":
        return "shm"
    return "ipc" if recipe.rollouts.placement == "colocated" else "nccl"


def engine_specs(recipe: Recipe, model: Path, device: Device) -> list[EngineSpec]:
    """One spec per policy engine."""
    rollouts = recipe.rollouts
    num_threads = rollouts.engine.cpu_threads
    cores = [None] * rollouts.engines if device == "cuda" else share_cores(rollouts.engines)
    return [
        EngineSpec(
            model=str(model),
            max_model_len=rollouts.engine.max_model_len or rollouts.max_prompt_tokens + rollouts.max_tokens,
            config=rollouts.engine,
            device=device,
            seed=recipe.seed,
            cpus=cpus if cpus is None or num_threads is None else cpus[:num_threads],
            transfer=sync_backend(recipe, device),
            enable_sleep_mode=rollouts.engine.enable_sleep_mode or rollouts.placement == "colocated",
        )
        for cpus in cores
    ]


def judge_engine_spec(judge: EngineJudge, model: Path, device: Device, seed: int) -> EngineSpec:
    """A judge's engine: never updated, all cores of a CPU host. A reward model has the precision of its files."""
    config = EngineConfig(kv_cache_gib=judge.kv_cache_gib)
    pools = isinstance(judge, RewardModelJudge)
    return EngineSpec(
        model=str(model),
        max_model_len=judge.max_tokens if pools else judge.max_model_len,
        config=config.model_copy(update={"dtype": stored_dtype(model)}) if pools else config,
        backbone=backbone_architecture(model) if pools else None,
        device=device,
        seed=seed,
        cpus=tuple(sorted(os.sched_getaffinity(0))) if device == "cpu" else None,
    )
