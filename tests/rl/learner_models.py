"""Tiny random models of other architectures than `rollouts.tiny`'s Llama, in the Hugging Face layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rollouts.tiny import build_tiny_tokenizer

KEYS: dict[str, dict[str, Any]] = {
    "deepseek_v3": {
        "kv_lora_rank": 8,
        "q_lora_rank": None,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "n_routed_experts": 4,
        "first_k_dense_replace": 2,
        "n_group": 1,
        "topk_group": 1,
    },
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 2, "mamba_d_head": 16, "mamba_d_state": 8},
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1, "head_dim": 16, "sliding_window": 128},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {"num_local_experts": 2, "intermediate_size_mlp": 64, "head_dim": 16},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "qwen3_5_text": {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "head_dim": 16,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    },
}
"""What a kind of model needs besides the sizes that all have."""


def write_model(kind: str, folder: Path, **keys: Any) -> Path:
    """A model of 2 layers, far from uniform, so that what is wrong shows in its log-probabilities.

    Args:
        kind: `model_type` in the config.
        keys: of the config, besides those of `KEYS`.
    """
    tokenizer = build_tiny_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = AutoConfig.for_model(kind, **sizes | KEYS.get(kind, {}) | keys)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("sinks"):
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
