"""LoRA (arXiv 2106.09685) through peft: small matrices beside frozen ones, W + (alpha / rank) B A.

training   base_layer(x) + (alpha / rank) B A x       only A and B have gradients and optimizer state
reference  base_layer(x)                              the same model with its adapters off
elsewhere  W + (alpha / rank) B A under W's own name  engines and checkpoints never see an adapter
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewards.errors import UserError
from rl.batching import MicroBatch
from rl.config import LoraConfig

ADAPTER = "default"
"""peft's name of the one adapter."""

ADAPTER_FOLDER = "adapter"
"""Folder beside exported weights that holds the adapter in peft's own format."""


def add_adapters(model: nn.Module, config: LoraConfig, *, seed: int) -> None:
    """Put adapters beside the target matrices and freeze everything else. B starts at 0, so the policy is the base's.

    Args:
        seed: of the matrices A; the same on every rank.

    Raises:
        UserError: a target that the model does not have.
    """
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if missing := [name for name in config.target_modules if name not in linear]:
        raise UserError(
            f"learner.lora.target_modules: the model has no matrix named {missing[0]!r}; "
            f"it has {', '.join(sorted(linear))}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(
            PeftConfig(
                r=config.rank,
                lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  # peft only divides by the rank
                lora_dropout=config.dropout,
                target_modules=list(config.target_modules),
                task_type="CAUSAL_LM",
            ),
            model,
            ADAPTER,
        )


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """peft's layers by the name of the matrix that they adapt; empty without LoRA."""
    return {f"{name}.base_layer.weight": layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}


def adapter_matrices(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """A [rank, in] and B [out, rank]."""
    return layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is part of an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def plain_name(name: str) -> str:
    """The name that a parameter has in the model without adapters."""
    return name.replace(".base_layer.", ".")


@torch.no_grad()
def merged_weight(layer: Any) -> Tensor:
    """A copy of the adapted matrix with its adapter added in float32; the layer stays as it is."""
    a, b = adapter_matrices(layer)
    base = layer.base_layer.weight
    dtype = torch.promote_types(base.dtype, torch.float32)
    return base.to(dtype) + (b.to(dtype) @ a.to(dtype)) * layer.scaling[ADAPTER]


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Inside, the model is its frozen base.

    peft's own switch would also change `requires_grad`, which DeepSpeed has read when it started.
    """
    layers = list(adapted_layers(model).values())
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


class BaseOnly:
    """The reference of a policy with adapters: the same engine with the adapters off."""

    def __init__(self, engine: Any, model: nn.Module):
        self._engine, self._model = engine, model

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        with adapters_off(self._model):
            return self._engine(batch)


def save_adapter(model: Any, matrices: dict[str, Tensor], out_dir: Path) -> None:
    """Write the adapter as `PeftModel.from_pretrained` reads it.

    Args:
        matrices: A and B of every adapted layer by parameter name, whole.
    """
    from safetensors.torch import save_file

    out_dir.mkdir(parents=True, exist_ok=True)
    named = {f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": tensor for name, tensor in matrices.items()}
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()},
        out_dir / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    model.peft_config[ADAPTER].save_pretrained(out_dir)
