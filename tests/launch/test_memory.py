"""Memory estimates by hand, for a model of 2**30 parameters: 1 byte a parameter is 1 GiB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launch.memory import engine_items, judge_items, kv_tokens, learner_items, total_gib
from recipes.load import load_recipe
from rewards.judge_config import EmbeddingJudge, RewardModelJudge, VerdictTokensJudge
from rl.config import LearnerConfig, LoraConfig, OffloadConfig
from rollouts.models import ModelFacts
from tests.launch.fakes import FULL

MODEL = ModelFacts(
    name="m", location="directory", directory=Path("m"), num_params=2**30, num_layers=16, hidden_size=1024,
    num_heads=16, num_kv_heads=4, head_dim=64, vocab_size=32768,
)  # fmt: skip
UNKNOWN = ModelFacts(name="h/m", location="hub")


@pytest.mark.parametrize(
    ("ranks", "stage", "weights", "gradients", "states"),
    [
        (1, 0, 2, 4, 12),
        (4, 0, 8, 16, 48),
        (4, 1, 8, 16, 12),
        (4, 2, 8, 4, 12),
        (4, 3, 2, 4, 12),
    ],
)
def test_zero_divides_what_its_stage_says(ranks: int, stage: int, weights: int, gradients: int, states: int) -> None:
    learner = LearnerConfig.model_validate({"ranks": ranks, "zero_stage": stage})
    items = {item.what: item for item in learner_items(learner, MODEL, has_reference=False)}
    assert items["learner weights, bfloat16"].gib == weights
    assert items["gradients, float32"].gib == gradients
    assert items["masters and Adam moments, float32"].gib == states
    assert all(item.parts == ranks for item in items.values())
    assert len(items) == 4


def test_activations_and_logits_by_hand() -> None:
    # 4096 tokens x 16 layers x 1024 units x 34 bytes = 2.125 GiB; logits 512 x 32768 x 8 bytes = 0.125 GiB.
    items = learner_items(LearnerConfig(), MODEL, has_reference=False)
    assert items[-1].gib == pytest.approx(2.125 + 0.125)
    checkpointed = learner_items(LearnerConfig(gradient_checkpointing=True), MODEL, has_reference=False)
    assert checkpointed[-1].gib == pytest.approx(0.125 + 0.125)


def test_a_reference_is_one_more_copy_of_the_weights() -> None:
    items = learner_items(LearnerConfig(dtype="float32"), MODEL, has_reference=True)
    assert items[-1].what == "reference model, float32"
    assert items[-1].gib == 4


def test_lora_trains_few_numbers_and_needs_no_reference() -> None:
    # 16 layers x rank 8 x (q: 1024 + 1024, v: 1024 + 4 x 64, down: 2048 + 1024) = 819,200 numbers.
    learner = LearnerConfig(lora=LoraConfig(rank=8, target_modules=("q_proj", "v_proj", "down_proj")))
    model = replace(MODEL, intermediate_size=2048)
    items = {item.what: item.gib for item in learner_items(learner, model, has_reference=True)}
    assert items["learner weights, bfloat16"] == 2
    assert items["gradients, float32"] == 4 * 819_200 / 2**30
    assert items["masters and Adam moments, float32"] == 12 * 819_200 / 2**30
    assert len(items) == 4
    odd = LearnerConfig(lora=LoraConfig(target_modules=("query_key_value",)))
    assert learner_items(odd, model, has_reference=False)[1].gib is None


def test_what_is_offloaded_takes_no_room_on_the_gpus() -> None:
    offload = OffloadConfig(optimizer="cpu", params="nvme", nvme_path="/disk")
    items = learner_items(LearnerConfig(zero_stage=3, offload=offload), MODEL, has_reference=False)
    assert [(item.what, item.gib) for item in items if item.offloaded] == [
        ("learner weights, bfloat16, offloaded to nvme", 2),
        ("masters and Adam moments, float32, offloaded to cpu", 12),
    ]
    assert total_gib(items) == pytest.approx(4 + 2.125 + 0.125)


def test_engines_hold_weights_and_on_a_cpu_a_cache_of_their_own() -> None:
    recipe = load_recipe(FULL).recipe
    assert [item.gib for item in engine_items(recipe, MODEL, "cpu")] == [2 * 2, 2 * 1.5]
    assert [item.gib for item in engine_items(recipe, MODEL, "cuda")] == [2 * 2]


def test_judges() -> None:
    tokens = VerdictTokensJudge(kind="verdict_tokens", model="m", kv_cache_gib=0.5)
    assert [item.gib for item in judge_items("judge", tokens, MODEL)] == [2, 0.5]
    pooled = RewardModelJudge(kind="reward_model", model="m", engine="vllm", kv_cache_gib=0.5)
    assert [item.gib for item in judge_items("judge", pooled, MODEL)] == [4, 0.5]
    assert [item.gib for item in judge_items("judge", EmbeddingJudge(kind="embedding", model="m"), MODEL)] == [4]


def test_tokens_of_a_cache_by_hand() -> None:
    # keys and values, 16 layers, 4 heads of 64, 2 bytes: 16 KiB a token.
    assert kv_tokens(1.0, MODEL, "bfloat16") == 2**30 // 2**14
    assert kv_tokens(1.0, UNKNOWN, "bfloat16") is None


def test_what_is_unknown_stays_unknown_and_out_of_the_sum() -> None:
    items = learner_items(LearnerConfig(), UNKNOWN, has_reference=True)
    assert [item.gib for item in items] == [None] * 5
    assert total_gib(items) == 0
