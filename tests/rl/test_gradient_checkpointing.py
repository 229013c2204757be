"""Layers are run again in the backward pass: less is kept, and every number stays what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rewards.errors import UserError
from rl.batching import build_micro_batches
from rl.config import LearnerConfig
from rl.policy import Policy, load_policy
from tests.rl.learner_data import make_groups
from tests.rl.learner_models import write_model


def load(model_dir: Path, *, checkpointing: bool) -> Policy:
    config = LearnerConfig(dtype="float32", gradient_checkpointing=checkpointing)
    return load_policy(model_dir, config, temperature=0.8)


def run(policy: Policy) -> tuple[Tensor, list[Tensor], int]:
    """Logprobs, the gradient of their sum, and how many numbers were kept for the backward pass."""
    groups = make_groups([(7, [5, 1, 9]), (3, [4, 4])], vocab_size=384)
    (batch,) = build_micro_batches(groups, max_tokens=1000, share_prompt=True)
    num_kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal num_kept
        num_kept += tensor.numel() * (not isinstance(tensor, torch.nn.Parameter))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs_BT, _ = policy(batch)
    logprobs_BT.sum().backward()
    grads = [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]
    return logprobs_BT.detach(), grads, num_kept


@pytest.mark.parametrize(
    ("kind", "dropout"),
    [
        ("llama", {"attention_dropout": 0.5}),
        ("gpt2", {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}),
        ("opt", {"dropout": 0.5, "attention_dropout": 0.5, "layerdrop": 0.5}),
    ],
)
def test_less_is_kept_and_no_number_changes(tmp_path: Path, kind: str, dropout: dict[str, float]) -> None:
    model_dir = write_model(kind, tmp_path, **dropout)
    expected, expected_grads, num_kept = run(load(model_dir, checkpointing=False))
    logprobs_BT, grads, num_kept_less = run(load(model_dir, checkpointing=True))
    assert num_kept_less < num_kept / 2
    assert torch.equal(logprobs_BT, expected)
    assert len(grads) == len(expected_grads) > 0
    for grad, other in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-5, atol=1e-5)


def test_a_model_without_layers_to_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set rl\.learner\.gradient_checkpointing: false"):
        load(write_model("openai-gpt", tmp_path), checkpointing=True)
