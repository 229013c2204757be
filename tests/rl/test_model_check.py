from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.errors import UserError
from rl.config import LearnerConfig
from rl.model_check import check_model
from rl.policy import load_policy
from tests.rl.learner_models import write_model

CPU = torch.device("cpu")


def check(model_dir: Path, *, share: bool, dtype: Any = "float32") -> None:
    config = LearnerConfig(dtype=dtype, share_prompt=share)
    policy = load_policy(model_dir, config, temperature=0.8)
    attention = policy.model.config._attn_implementation
    check_model(policy, model_dir, config, CPU)
    assert policy.model.config._attn_implementation == attention  # the check leaves the policy as it was


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("share", [True, False])
def test_a_model_of_attention_alone_is_right_either_way(tmp_path: Path, share: bool, dtype: str) -> None:
    check(write_model("llama", tmp_path), share=share, dtype=dtype)


def test_values_may_be_narrower_than_keys(tmp_path: Path) -> None:
    check(write_model("deepseek_v3", tmp_path), share=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("lfm2", "standard deviations away from the model's own"),
        ("qwen3_5_text", "standard deviations away from the model's own"),
        ("gpt_oss", "does not know the model's 's_aux'"),
        ("stablelm", "needs `packing` in the model's call"),
    ],
)
def test_answers_that_cannot_share_a_prompt(tmp_path: Path, kind: str, why: str, dtype: str) -> None:
    model_dir = write_model(kind, tmp_path)
    with pytest.raises(UserError, match=rf"cannot share a prompt \(.*{why}\); set rl.learner.share_prompt: false"):
        check(model_dir, share=True, dtype=dtype)
    check(model_dir, share=False, dtype=dtype)


@pytest.mark.parametrize("share", [True, False])
def test_a_model_that_is_wrong_either_way_is_refused(tmp_path: Path, share: bool) -> None:
    model_dir = write_model("llama", tmp_path)
    config = LearnerConfig(dtype="float32", share_prompt=share)
    policy = load_policy(model_dir, config, temperature=1.0)
    real = policy.model.forward

    def scaled(**kwargs: Any) -> Any:  # as by a key of the config that we do not know
        output = real(**kwargs)
        output.logits = output.logits * 0.5
        return output

    policy.model.forward = scaled
    with pytest.raises(UserError, match=r"podium cannot train this model \(its logprobs are .* use another model"):
        check_model(policy, model_dir, config, CPU)


def test_a_model_with_its_layers_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot train this model \(AttributeError: .*'last_hidden_state'"):
        check(write_model("llama4_text", tmp_path), share=False)


def test_a_factor_behind_the_output_layer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="changes logits by `lm_head_multiplier`"):
        check(write_model("falcon_h1", tmp_path, lm_head_multiplier=0.5), share=False)
