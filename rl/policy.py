"""The policy as a torch module: a Hugging Face causal model that answers with log-probabilities of given tokens.

Shapes: R rows, L row length, N loss tokens, H hidden size, B rollouts, T longest answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewards.errors import UserError
from rl import shared_prefix
from rl.batching import MicroBatch
from rl.config import LearnerConfig
from rl.logprobs import LogprobHead

LOGIT_KEYS = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0, "lm_head_multiplier": 1.0}
"""Keys of a model's config that change logits behind the output layer, with the value that changes nothing."""


class Policy(nn.Module):
    """`model` is the Hugging Face model; its parameters keep their names, its output layer is a LogprobHead."""

    def __init__(self, model: nn.Module, *, temperature: float, logprob_chunk: int):
        super().__init__()
        self.model: Any = model
        self.temperature = temperature
        self.logprob_chunk = logprob_chunk

    def forward(self, batch: MicroBatch, with_entropy: bool = False) -> tuple[Tensor, Tensor]:
        """(logprobs_BT, entropy_BT) of the batch's loss tokens under the sampling temperature; 0 at other places."""
        packing = {} if batch.packing is None else {"packing": batch.packing}
        hidden_RLH = self.model.base_model(
            input_ids=batch.input_ids_RL,
            position_ids=batch.position_ids_RL,
            attention_mask=batch.attention_mask_RL,
            use_cache=False,
            **packing,
        ).last_hidden_state
        hidden_NH = hidden_RLH.flatten(0, 1).index_select(0, batch.predict_N)
        logprobs_N, entropy_N = self.model.get_output_embeddings()(
            hidden_NH,
            batch.labels_N,
            temperature=self.temperature,
            chunk=self.logprob_chunk,
            with_entropy=with_entropy,
        )
        return _spread(logprobs_N, batch), _spread(entropy_N, batch)


def _spread(values_N: Tensor, batch: MicroBatch) -> Tensor:
    flat = values_N.new_zeros(batch.mask_BT.numel())
    return flat.index_copy(0, batch.slots_N, values_N).view(batch.mask_BT.shape)


def load_policy(model_dir: str | Path, config: LearnerConfig, *, temperature: float) -> Policy:
    """Load a model in the Hugging Face layout for training.

    Raises:
        UserError: the model has a part that the chunked log-probabilities leave out, or no layers to checkpoint.
    """
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        str(model_dir),
        dtype=getattr(torch, config.dtype),
        # None: sdpa, and eager for the few models that have no other.
        attn_implementation=shared_prefix.register() if config.share_prompt else None,
        local_files_only=True,
    )
    _check_output_layer(model, model_dir)
    model.set_output_embeddings(LogprobHead(model.get_output_embeddings()))
    model.eval()  # no dropout: log-probabilities must be those of the policy that sampled
    if config.gradient_checkpointing:
        _checkpoint_layers(model, model_dir)
    return Policy(model, temperature=temperature, logprob_chunk=config.logprob_chunk)


def _checkpoint_layers(model: Any, model_dir: str | Path) -> None:
    """Transformers checkpoints a layer only in training mode; what is inside the layer stays as in evaluation."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers or not model.supports_gradient_checkpointing:
        raise UserError(f"{model_dir}: has no layers to checkpoint; set rl.learner.gradient_checkpointing: false")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in layers:
        layer.training = True
        for name in [name for name, value in vars(layer).items() if "drop" in name and isinstance(value, float)]:
            setattr(layer, name, 0.0)  # the layer's own dropout is no module


def _check_output_layer(model: Any, model_dir: str | Path) -> None:
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise UserError(f"{model_dir}: its output layer is a {type(head).__name__}, not a Linear; use another model")
    if head.bias is not None:
        raise UserError(f"{model_dir}: output layers with a bias are not supported; use a model without one")
    for key, neutral in LOGIT_KEYS.items():
        value = getattr(model.config, key, None)
        if value is not None and value != neutral:
            raise UserError(
                f"{model_dir}: its config changes logits by `{key}`, which is not supported; use another model"
            )
