"""What stands before a learner's rank can learn: its process and the models it holds."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import torch

from rl.config import RLConfig
from rl.lora import add_adapters
from rl.policy import Policy, load_policy
from rl.zero import deepspeed_config
from rollouts.models import locate_model


def settle_process(device: torch.device, *, seed: int, num_threads: int | None, world_size: int) -> None:
    """Seed every generator and share the cores out. Before deepspeed is imported: it reads its accelerator then."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(num_threads or max(1, cores // world_size))


def load_trained(model_dir: Path, config: RLConfig, *, temperature: float, device: torch.device, seed: int) -> Policy:
    """The policy that learns; under ZeRO-3 each rank holds its part of every large tensor only.

    Args:
        seed: of LoRA's first matrices; the same on every rank.
    """
    policy = _load_parted(model_dir, config, temperature, device)
    if config.learner.lora is not None:
        add_adapters(policy.model, config.learner.lora, seed=seed)
    return policy


def _load_parted(model_dir: Path, config: RLConfig, temperature: float, device: torch.device) -> Policy:
    if config.learner.zero_stage == 3:
        from transformers.integrations.deepspeed import HfDeepSpeedConfig

        # While this object lives, from_pretrained partitions weights as it loads them.
        partitioning = HfDeepSpeedConfig(deepspeed_config(config, device.type, largest_numel=_largest(model_dir)))
        policy = load_policy(model_dir, config.learner, temperature=temperature)
        del partitioning
        return policy
    return load_policy(model_dir, config.learner, temperature=temperature).to(device)


def _largest(model_dir: Path) -> int | None:
    """Numbers in the model's largest matrix, as far as its config tells."""
    facts = locate_model(str(model_dir))
    sides = [side for side in (facts.vocab_size, facts.intermediate_size) if side is not None]
    return max(sides) * facts.hidden_size if sides and facts.hidden_size else None


def load_reference(model_dir: Path, config: RLConfig, *, temperature: float, device: torch.device) -> Policy:
    """A frozen copy of the starting model, whole on every rank."""
    reference = load_policy(model_dir, config.learner, temperature=temperature)
    return reference.to(device).requires_grad_(False).eval()
