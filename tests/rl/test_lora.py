"""Adapters beside frozen weights, without DeepSpeed: what is merged, what is switched off, what stays untouched."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model

from rewards.errors import UserError
from rl.batching import build_micro_batches
from rl.config import LearnerConfig, LoraConfig
from rl.lora import ADAPTER, BaseOnly, adapted_layers, adapters_off, add_adapters
from rl.policy import Policy, load_policy
from rl.weights import LearnerSource
from rollouts.tiny import build_tiny_model
from tests.rl.learner_data import make_groups

LORA = LoraConfig(rank=3, alpha=12.0, target_modules=("q_proj", "down_proj"))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"), head_dim=16)


def load(model_dir: Path, *, dtype: Any = "float32") -> Policy:
    return load_policy(model_dir, LearnerConfig(dtype=dtype), temperature=1.0)


def adapted(model_dir: Path, *, dtype: Any = "float32", seed: int = 0) -> Policy:
    """With matrices B that are not zero any more."""
    policy = load(model_dir, dtype=dtype)
    add_adapters(policy.model, LORA, seed=seed)
    generator = torch.Generator().manual_seed(1)
    for layer in adapted_layers(policy.model).values():
        matrix = layer.lora_B[ADAPTER].weight
        matrix.data = torch.randn(matrix.shape, generator=generator).to(matrix.dtype) * 0.1
    return policy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_leaves_is_what_peft_merges_and_the_model_stays_as_it_was(model_dir: Path, dtype: str) -> None:
    policy = adapted(model_dir, dtype=dtype)
    kept = copy.deepcopy(policy.model.state_dict())
    source = LearnerSource(policy.model, getattr(torch, dtype))
    sent = {name: tensor.clone() for name, tensor in source}
    assert [meta.name for meta in source.metadata()] == list(sent)
    assert all(meta.shape == tuple(sent[meta.name].shape) for meta in source.metadata())
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(tensor, kept[name]), name
    base = dict(load(model_dir, dtype=dtype).model.named_parameters())
    assert sent.keys() == base.keys()

    peft_config = PeftConfig(r=LORA.rank, lora_alpha=12, target_modules=list(LORA.target_modules))
    wrapped: Any = get_peft_model(load(model_dir, dtype=dtype).model, peft_config, autocast_adapter_dtype=False)
    wrapped.base_model.model.load_state_dict(policy.model.state_dict())
    merged = dict(wrapped.merge_and_unload().named_parameters())
    moved = {name for name in sent if not torch.equal(sent[name], base[name])}
    assert moved == {name for name in sent if "q_proj" in name or "down_proj" in name}
    for name, tensor in sent.items():
        if dtype == "float32":
            assert torch.equal(tensor, merged[name]), name
        else:  # peft rounds the product before it is added, we round once
            torch.testing.assert_close(tensor, merged[name], rtol=2**-7, atol=2**-9)


def test_adapters_start_as_nothing_and_go_off_without_a_trace(model_dir: Path) -> None:
    (batch,) = build_micro_batches(
        make_groups([(5, [4, 3]), (2, [6])], vocab_size=384), max_tokens=99, share_prompt=True
    )
    base = load(model_dir)
    fresh = load(model_dir)
    add_adapters(fresh.model, LORA, seed=0)
    policy = adapted(model_dir)
    with torch.no_grad():
        expected, _ = base(batch)
        assert torch.equal(fresh(batch)[0], expected)
        assert not torch.equal(policy(batch)[0], expected)
        assert torch.equal(BaseOnly(policy, policy.model)(batch)[0], expected)
        with pytest.raises(ZeroDivisionError), adapters_off(policy.model):
            raise ZeroDivisionError
        assert not torch.equal(policy(batch)[0], expected)


def test_only_adapters_have_gradients(model_dir: Path) -> None:
    policy = adapted(model_dir)
    trained = {name for name, parameter in policy.model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in policy.model.named_parameters() if "lora_" in name}
    assert len(trained) == 2 * 2 * 2  # layers x targets x (A, B)
    with adapters_off(policy.model):
        assert all(policy.model.get_parameter(name).requires_grad for name in trained)


def test_the_seed_makes_the_matrices(model_dir: Path) -> None:
    first, same, other = (
        {name: p.detach() for name, p in adapted(model_dir, seed=seed).model.named_parameters() if "lora_A" in name}
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_a_target_that_is_not_there_is_named(model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"no matrix named 'qkv_proj'; it has .*down_proj.*v_proj"):
        add_adapters(load(model_dir).model, LoraConfig(target_modules=("q_proj", "qkv_proj")), seed=0)
