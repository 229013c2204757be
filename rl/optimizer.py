"""AdamW and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from rl.config import OptimizerConfig


def lr_at(step: int, config: OptimizerConfig, num_steps: int) -> float:
    """Learning rate of training step `step` (1-based); all updates of a step share it.

    Rises linearly to `lr` over the first `warmup_steps` steps, then stays, or falls linearly or along half a cosine to
    `min_lr_ratio * lr`, which the step after the last one would have.
    """
    if step <= config.warmup_steps:
        return config.lr * step / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps - 1) / max(1, num_steps - config.warmup_steps)
    done = min(1.0, done)
    left = 1.0 - done if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return config.lr * (config.min_lr_ratio + (1.0 - config.min_lr_ratio) * left)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases and norm weights do not."""
    if config.weight_decay == 0.0:
        return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": 0.0}]
    decay, plain = [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            # Under ZeRO-3 the parameter itself is flat and empty; ds_shape is what it is when gathered.
            is_matrix = len(getattr(parameter, "ds_shape", parameter.shape)) > 1
            (decay if is_matrix else plain).append(parameter)
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """torch's fused AdamW: one pass over memory on CPU and GPU alike, and no compiler needed."""
    return torch.optim.AdamW(
        parameter_groups(model, config), lr=config.lr, betas=config.betas, eps=config.eps, fused=True
    )
