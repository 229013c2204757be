"""LoRA on real DeepSpeed ranks: only adapters move, at every ZeRO stage alike, and the base is the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl.config import LoraConfig, OffloadConfig
from rl.learner import Learner
from rollouts.tiny import build_tiny_model
from tests.rl.learner_data import make_groups
from tests.rl.learner_worker import run_ranks
from tests.rl.test_learner import UNEVEN, VOCAB, make_config, make_learner, train, weights_of

pytestmark = pytest.mark.slow

LORA = LoraConfig(rank=4, alpha=8.0, target_modules=("q_proj", "v_proj", "down_proj"))


def own_parameters(learner: Learner) -> dict[str, np.ndarray]:
    """Every parameter as it is, adapters apart."""
    from rl.weights import gathered

    found = {}
    for name, parameter in learner.model.named_parameters():
        with gathered([parameter]):
            found[name] = parameter.detach().float().numpy().copy()
    return found


def adapt(rank: int, world_size: int, port: int, model_dir: Path, folder: Path) -> dict[str, Any]:
    import rl.learner
    import rl.zero

    rl.zero.PERSISTENT_NUMEL = 1000  # partition the tiny matrices, keep the tiny norms whole
    groups = make_groups(UNEVEN, vocab_size=VOCAB, masked=True)
    found: dict[str, Any] = {"base": make_learner(model_dir, rank, world_size, port, make_config()).logprobs(groups)}
    for stage in range(4):
        config = make_config(zero_stage=stage, micro_batch_tokens=30, lora=LORA)
        learner = make_learner(model_dir, rank, world_size, port, config, kl_coef=0.1)
        before = own_parameters(learner)
        rows = train(learner, 2)
        after = own_parameters(learner)
        found[f"stage-{stage}"] = {
            "kl": [row["rl/kl"] for row in rows],
            "moved": {name for name in before if not np.array_equal(before[name], after[name])},
            "all": set(before),
            "merged": weights_of(learner),
            "reference": learner.logprobs(groups, reference=True),
            "policy": learner.logprobs(groups),
        }
        if stage in (2, 3):  # saved, loaded and continued is the same as never stopped, bit for bit
            path = folder / f"stage_{stage}"
            learner.save(path, {})
            train(learner, 2, first=2)
            again = make_learner(model_dir, rank, world_size, port, config, kl_coef=0.1)
            again.load(path)
            train(again, 2, first=2)
            mine, other = own_parameters(learner), own_parameters(again)
            found[f"stage-{stage}"]["resumed"] = all(np.array_equal(mine[name], other[name]) for name in mine)

    # Offload is refused on a CPU, where it saves nothing; what DeepSpeed makes of the settings can be seen there.
    rl.learner.check_learner = lambda *_: None
    for stage, offload in ((2, OffloadConfig(optimizer="cpu")), (3, OffloadConfig(optimizer="cpu", params="cpu"))):
        config = make_config(zero_stage=stage, micro_batch_tokens=30, lora=LORA, offload=offload)
        learner = make_learner(model_dir, rank, world_size, port, config, kl_coef=0.1)
        train(learner, 2)
        found[f"offload-{stage}"] = weights_of(learner)
    return found


def test_every_zero_stage_trains_the_adapters_and_nothing_else(tmp_path: Path) -> None:
    model_dir = build_tiny_model(tmp_path / "model", head_dim=16, init_std=0.1)
    first, second = run_ranks(adapt, model_dir, tmp_path, folder=tmp_path, world_size=2)
    reference = first["stage-1"]
    for stage in range(4):
        one = first[f"stage-{stage}"]
        assert one["moved"] == {name for name in one["all"] if "lora_" in name}
        assert one["kl"][0] == pytest.approx(0.0, abs=1e-9)
        assert one["kl"][1] > 1e-9
        for got, expected in zip(one["reference"], first["base"], strict=True):
            np.testing.assert_allclose(got, expected, atol=2e-5)
        assert any(np.abs(got - off).max() > 1e-5 for got, off in zip(one["policy"], one["reference"], strict=True))
        for name, weight in one["merged"].items():
            assert np.abs(weight - reference["merged"][name]).max() < 1e-5, (stage, name)
            assert np.array_equal(weight, second[f"stage-{stage}"]["merged"][name]), (stage, name)
        assert one.get("resumed", True)
    for stage in (2, 3):
        for name, weight in first[f"offload-{stage}"].items():
            assert np.abs(weight - reference["merged"][name]).max() < 1e-5, (stage, name)
    check_export(tmp_path / "stage_3" / "hf", model_dir, first["stage-3"]["merged"])


def check_export(folder: Path, model_dir: Path, merged: dict[str, np.ndarray]) -> None:
    """The export is the merged model; the adapter beside it makes the same one out of the base."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    exported = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, parameter in exported.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), merged[name])
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    remade: Any = PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload()  # pyright: ignore
    for name, parameter in remade.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), merged[name])
