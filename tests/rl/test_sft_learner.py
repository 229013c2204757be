"""Written answers on real DeepSpeed ranks: the loss and the update are those of plain torch, and a resume is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl.config import LearnerConfig, RLConfig
from rl.learner import Learner
from rl.sft import heldout_loss, make_groups, sft_objective
from rl.sft_config import SFTConfig, SFTOptimizerConfig
from rl.sft_schedule import rows_of_step
from rl.types import TrainGroup
from rollouts.dialogue import Dialogue, encode_dialogue
from rollouts.tiny import build_tiny_model, build_tiny_tokenizer
from tests.rl.learner_worker import run_ranks
from tests.rl.test_learner import weights_of, without_times

pytestmark = pytest.mark.slow

SCHEDULE = SFTConfig(data="x", rows_per_step=4)
OPTIMIZER = SFTOptimizerConfig(lr=1e-3, max_grad_norm=0.5, eps=1e-6)


def dialogues() -> list[Dialogue]:
    tokenizer = build_tiny_tokenizer()
    answers = ["The river rose.", "Rain fell on the hills all night.", "A", "The baker opens the shop."]
    rows = [
        [{"role": "user", "content": f"What happened, {n % 3}?"}, {"role": "assistant", "content": answers[n % 4]}]
        for n in range(7)
    ]
    more = [{"role": "user", "content": "And then?"}, {"role": "assistant", "content": "Answer B."}]
    return [encode_dialogue(tokenizer, row + (more if n % 2 else [])) for n, row in enumerate(rows)]


def groups_of(step: int) -> list[TrainGroup]:
    rows = dialogues()
    return make_groups([rows[row] for row in rows_of_step(SCHEDULE, len(rows), seed=1, step=step)])


def make_learner(model_dir: Path, rank: int, world_size: int, port: int, **keys: Any) -> Learner:
    learner = LearnerConfig(**({"dtype": "float32", "micro_batch_tokens": 80, "cpu_threads": 1} | keys))
    return Learner(
        model_dir,
        RLConfig(num_steps=4, optimizer=OPTIMIZER, learner=learner),
        objective=sft_objective(),
        temperature=1.0,
        rank=rank,
        world_size=world_size,
        master_port=port,
    )


def learn(rank: int, world_size: int, port: int, model_dir: Path, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    groups = make_groups(dialogues())
    learner = make_learner(model_dir, rank, world_size, port, zero_stage=2)
    found["heldout"] = heldout_loss(groups, learner.logprobs(groups))
    found["rows"] = [learner.step(groups_of(1))]
    learner.save(folder / "step_1", {"step": 1})
    found["rows"].append(learner.step(groups_of(2)))
    found["weights"] = weights_of(learner)
    again = make_learner(model_dir, rank, world_size, port, zero_stage=2)
    again.load(folder / "step_1")
    again.step(groups_of(2))
    found["resumed"] = weights_of(again)
    return found


def oracle(model_dir: Path) -> tuple[float, list[float], dict[str, np.ndarray]]:
    """Plain torch: every row by itself, cross-entropy over its answer tokens, clip, AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=OPTIMIZER.lr, betas=OPTIMIZER.betas, eps=OPTIMIZER.eps, weight_decay=0.0
    )
    rows = dialogues()

    def loss_of(chosen: list[Dialogue]) -> torch.Tensor:
        num_tokens = sum(int(row.loss_mask.sum()) for row in chosen)
        total = torch.zeros(())
        for row in chosen:
            ids = torch.tensor([*row.prompt_token_ids, *row.answer_token_ids]).long()
            labels = ids.clone()
            labels[: len(row.prompt_token_ids)] = -100
            labels[len(row.prompt_token_ids) :][~torch.tensor(row.loss_mask)] = -100
            logits = model(input_ids=ids[None]).logits[0, :-1]
            total = total + torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum")
        return total / num_tokens

    with torch.no_grad():
        before = float(loss_of(rows))
    losses = []
    for step in (1, 2):
        loss = loss_of([rows[row] for row in rows_of_step(SCHEDULE, len(rows), seed=1, step=step)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return before, losses, {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def test_ranks_learn_what_plain_torch_learns_and_resume_exactly(tmp_path: Path) -> None:
    model_dir = build_tiny_model(tmp_path / "model", head_dim=16, init_std=0.1)
    two = run_ranks(learn, model_dir, tmp_path, folder=tmp_path, world_size=2)
    before, losses, expected = oracle(model_dir)
    assert [without_times(row) for row in two[0]["rows"]] == [without_times(row) for row in two[1]["rows"]]
    assert two[0]["heldout"].loss == pytest.approx(before, abs=1e-5)
    assert [row["rl/loss"] for row in two[0]["rows"]] == pytest.approx(losses, abs=1e-5)
    for name, weight in two[0]["weights"].items():
        assert np.abs(weight - expected[name]).max() < 1e-5, name
        for rank in two:
            assert np.array_equal(rank["resumed"][name], weight), name
