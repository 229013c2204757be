"""Reward models of a few thousand weights, made on the spot, in the layouts that users bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaModel

from rollouts.tiny import build_tiny_tokenizer


def _config(**keys: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=384,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.5,
        pad_token_id=0,
        **keys,
    )


def build_tiny_scalar(directory: Path, *, num_labels: int = 1, seed: int = 0) -> Path:
    """A sequence classifier; its pad token is set, as in published reward models."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForSequenceClassification(_config(num_labels=num_labels)).save_pretrained(directory)
    build_tiny_tokenizer().save_pretrained(directory)
    return directory


def build_tiny_both(directory: Path) -> Path:
    """One backbone under a scalar's head and those of a preference embedding; vLLM's CPU attention takes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        LlamaForSequenceClassification(_config(num_labels=1, head_dim=32)).save_pretrained(directory)
        heads = {"value_head.weight": torch.randn(4, 16), "prompt_head.weight": torch.randn(2, 16)}
    weights = load_file(directory / "model.safetensors")
    save_file(weights | heads, directory / "model.safetensors", metadata={"format": "pt"})
    build_tiny_tokenizer().save_pretrained(directory)
    return directory


def build_tiny_preference(directory: Path, *, num_blocks: int = 2, with_prompt_head: bool = True) -> Path:
    """A base model with the two heads of a general preference model beside its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaModel(_config()).save_pretrained(directory)
        heads = {"value_head.weight": torch.randn(2 * num_blocks, 16)}
        if with_prompt_head:
            heads["prompt_head.weight"] = torch.randn(num_blocks, 16)
    weights = load_file(directory / "model.safetensors")
    save_file(weights | heads, directory / "model.safetensors", metadata={"format": "pt"})
    build_tiny_tokenizer().save_pretrained(directory)
    return directory
