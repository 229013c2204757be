from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.errors import RunStopped, UserError
from rl.batching import split_updates, teaching_rollouts
from rl.config import LearnerConfig, OptimizerConfig, RLConfig
from rl.learner import Learner
from rl.metrics import Sum
from rl.optimizer import lr_at
from rl.types import TrainGroup, TrainRollout
from rl.weights import LearnerSource
from rl.zero import check_learner
from rollouts.tiny import build_tiny_model
from tests.rl.learner_data import make_groups, make_objective
from tests.rl.learner_models import write_model
from tests.rl.learner_objectives import INIT_STD, check_objective_runs, objective_runs
from tests.rl.learner_worker import run_ranks
from tests.rl.loss_data import SETTINGS

VOCAB = 384
UNEVEN: list[tuple[int, list[int]]] = [(7, [5, 1, 9, 4]), (3, [4, 4]), (11, [2, 12, 3])]


def make_config(**learner: Any) -> RLConfig:
    optimizer = OptimizerConfig(lr=1e-3, weight_decay=0.1, max_grad_norm=0.5, warmup_steps=2, schedule="linear")
    return RLConfig(
        num_steps=8,
        updates_per_step=learner.pop("updates_per_step", 1),
        optimizer=optimizer,
        learner=LearnerConfig(**({"dtype": "float32", "logprob_chunk": 7, "cpu_threads": 1} | learner)),
    )


def make_learner(
    model_dir: Path, rank: int, world_size: int, port: int, config: RLConfig, *, kl_coef: float = 0.0
) -> Learner:
    return Learner(
        model_dir,
        config,
        objective=make_objective(kl_coef=kl_coef),
        temperature=0.8,
        rank=rank,
        world_size=world_size,
        master_port=port,
    )


def weights_of(learner: Learner) -> dict[str, np.ndarray]:
    import torch

    return {name: tensor.numpy().copy() for name, tensor in LearnerSource(learner.model, torch.float32)}


def train(learner: Learner, num_steps: int, first: int = 0) -> list[dict[str, float]]:
    return [
        learner.step(make_groups(UNEVEN, vocab_size=VOCAB, seed=seed, masked=True))
        for seed in range(first, first + num_steps)
    ]


# --- pure parts -------------------------------------------------------------------------------------------------


def test_learning_rate_by_hand() -> None:
    config = OptimizerConfig(lr=0.1, warmup_steps=2, schedule="linear", min_lr_ratio=0.5)
    assert [round(lr_at(step, config, 6), 6) for step in range(1, 8)] == [0.05, 0.1, 0.1, 0.0875, 0.075, 0.0625, 0.05]
    assert lr_at(5, OptimizerConfig(lr=0.1), 6) == 0.1
    cosine = OptimizerConfig(lr=0.1, schedule="cosine")
    assert [round(lr_at(step, cosine, 4), 6) for step in (1, 3, 5)] == [0.1, 0.05, 0.0]


def test_updates_share_the_groups_out() -> None:
    groups = make_groups([(1, [1])] * 5, vocab_size=9)
    assert [[g.group_index for g in part] for part in split_updates(groups, 2)] == [[0, 1], [2, 3, 4]]
    assert [[g.group_index for g in part] for part in split_updates(groups, 9)] == [[0], [1], [2], [3], [4]]
    with pytest.raises(ValueError, match="at least one"):
        split_updates([], 1)


def test_rollouts_without_an_advantage_teach_nothing() -> None:
    groups = make_groups([(1, [2, 2]), (1, [2])], vocab_size=9)
    groups[0].rollouts[1].advantages[:] = 0
    assert teaching_rollouts(groups) == {0, 2}
    for group in groups:
        for rollout in group.rollouts:
            rollout.advantages[:] = 0
    assert teaching_rollouts(groups) == frozenset()


def test_stage_0_in_bfloat16_is_refused() -> None:
    with pytest.raises(UserError, match="zero_stage: 1"):
        check_learner(make_config(zero_stage=0, dtype="bfloat16"), "cpu")


# --- real ranks -------------------------------------------------------------------------------------------------


def every_stage(
    rank: int, world_size: int, port: int, dirs: dict[str, Path], objectives_dir: Path, dtype: str
) -> dict[str, Any]:
    import rl.zero

    rl.zero.PERSISTENT_NUMEL = 1000  # partition the tiny matrices, keep the tiny norms whole
    found: dict[str, Any] = {}
    for tied, model_dir in dirs.items():
        for stage in range(4):
            if (dtype == "bfloat16" and stage == 0) or (tied == "untied" and stage != 3):
                continue
            budget = 1000 if stage == 1 else 30
            config = make_config(zero_stage=stage, micro_batch_tokens=budget, dtype=dtype, share_prompt=stage != 2)
            learner = make_learner(model_dir, rank, world_size, port, config)
            rows = train(learner, 3)
            found[f"{tied}-{stage}"] = (rows, weights_of(learner))
            if stage == 3:
                assert any(parameter.numel() == 0 for parameter in learner.model.parameters())
    found["objectives"] = objective_runs(rank, world_size, port, objectives_dir, VOCAB)
    return found


def oracle(model_dir: Path, num_steps: int) -> dict[str, np.ndarray]:
    """Plain torch: every rollout by itself, the token mean of the whole batch, clip, AdamW."""
    import torch
    from transformers import AutoModelForCausalLM

    config = make_config().optimizer
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        betas=config.betas,
        eps=config.eps,
    )
    for step in range(num_steps):
        groups = make_groups(UNEVEN, vocab_size=VOCAB, seed=step, masked=True)
        num_tokens = sum(int(rollout.loss_mask.sum()) for group in groups for rollout in group.rollouts)
        for group in groups:
            for rollout in group.rollouts:
                prompt, answer = torch.tensor(group.prompt_token_ids), torch.tensor(rollout.token_ids)
                logits = model(input_ids=torch.cat([prompt, answer]).long()[None]).logits[0, len(prompt) - 1 : -1]
                logprobs = torch.log_softmax(logits / 0.8, -1).gather(1, answer.long()[:, None]).squeeze(1)
                # One update per batch: the ratio is 1, its gradient that of the logprob.
                (-(logprobs * torch.tensor(rollout.advantages * rollout.loss_mask)).sum() / num_tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr_at(step + 1, config, 8)
        optimizer.step()
        optimizer.zero_grad()
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: build_tiny_model(folder / name, tie_embeddings=name == "tied", head_dim=16, init_std=0.1)
        for name in ("tied", "untied")
    }


@pytest.mark.slow
def test_every_zero_stage_and_number_of_ranks_learns_the_same(model_dirs: dict[str, Path], tmp_path: Path) -> None:
    flat = build_tiny_model(tmp_path / "flat", head_dim=16, init_std=INIT_STD)
    (one,) = run_ranks(every_stage, model_dirs, flat, "float32", folder=tmp_path)
    two = run_ranks(every_stage, model_dirs, flat, "float32", folder=tmp_path, world_size=2)
    check_objective_runs(one.pop("objectives"), [result.pop("objectives") for result in two])
    expected = {name: oracle(model_dir, 3) for name, model_dir in model_dirs.items()}
    assert list(one) == ["tied-0", "tied-1", "tied-2", "tied-3", "untied-3"]
    for key, (rows, weights) in one.items():
        for other in (*(result[key] for result in two), one[key.split("-")[0] + "-3"]):
            for row, other_row in zip(rows, other[0], strict=True):
                for metric in ("rl/loss", "rl/grad_norm", "sync/logprob_gap", "rl/entropy", "rl/lr", "rl/num_tokens"):
                    assert row[metric] == pytest.approx(other_row[metric], abs=1e-5), (key, metric)
        for other_weights in (two[0][key][1], expected[key.split("-")[0]]):
            assert weights.keys() == other_weights.keys()
            for name, weight in weights.items():
                assert np.abs(weight - other_weights[name]).max() < 1e-5, (key, name)
    first, second = ([without_times(row) for row in result["tied-1"][0]] for result in two)
    assert first == second


def without_times(row: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in row.items() if not key.startswith("time/")}


def everything_else(
    rank: int, world_size: int, port: int, model_dir: Path, hybrid_dir: Path, folder: Path
) -> dict[str, Any]:
    """The other promises, in one process per rank, since starting one is what takes long."""
    found: dict[str, Any] = {}
    groups = make_groups(UNEVEN, vocab_size=VOCAB, masked=True)

    for stage in (1, 2, 3):  # bfloat16 follows float32
        learner = make_learner(model_dir, rank, world_size, port, make_config(zero_stage=stage, dtype="bfloat16"))
        found[f"bf16-{stage}"] = train(learner, 2)

    # Saved, loaded and continued is the same as never stopped, bit for bit.
    config = make_config(zero_stage=2, dtype="bfloat16", micro_batch_tokens=30)
    first = make_learner(model_dir, rank, world_size, port, config)
    train(first, 2)
    first.save(folder / "step_2", {"prior": [0.25]})
    train(first, 3, first=2)
    second = make_learner(model_dir, rank, world_size, port, config)
    found["extra"] = second.load(folder / "step_2")
    train(second, 3, first=2)
    mine, other = weights_of(first), weights_of(second)
    found["resumed"] = all(np.array_equal(mine[name], other[name]) for name in mine)
    found["steps_done"] = second.num_steps_done

    # Several updates a step: the ratio leaves 1, the gap is that of the weights before.
    learner = make_learner(model_dir, rank, world_size, port, make_config(updates_per_step=3, zero_stage=3))
    before = learner.logprobs(groups)
    found["updates"] = learner.step(groups)
    found["gap"] = gap_of(before, groups)
    learner.export_hf(folder / "hf")
    found["exported"] = weights_of(learner)

    # The same under other objectives: nothing is recomputed under bypass, and pairs are weighed anew for each update.
    learner = make_learner(model_dir, rank, world_size, port, make_config(updates_per_step=3))
    learner.objective = replace(make_objective(), bypass=True)
    found["bypass"] = learner.step(groups)
    found["bypass_gap"] = gap_of(before[: len(groups[0].rollouts)], groups[:1])
    learner = make_learner(model_dir, rank, world_size, port, make_config(updates_per_step=3))
    learner.objective = SETTINGS["disco"]
    found["disco"] = learner.step([with_ladder(group) for group in groups])

    # A reference: no divergence at first, some later.
    learner = make_learner(model_dir, rank, world_size, port, make_config(), kl_coef=0.1)
    found["kl"] = [row["rl/kl"] for row in train(learner, 3)]

    # A rollout that teaches nothing is left out of the passes, not out of the normalisers.
    learner = make_learner(model_dir, rank, world_size, port, make_config(zero_stage=1))
    level = copy.deepcopy(groups)
    for rollout in level[1].rollouts:
        rollout.advantages[:] = 0
    found["level"] = learner.step(level)
    learner = make_learner(model_dir, rank, world_size, port, make_config(zero_stage=1), kl_coef=1e-12)
    found["level_full"] = learner.step(level)

    # Where nothing teaches there is no update: momentum and weight decay would move the weights all the same.
    learner = make_learner(model_dir, rank, world_size, port, make_config(updates_per_step=3))
    train(learner, 1)
    kept = weights_of(learner)
    nothing = [replace(group, rollouts=tuple(_without_advantage(r) for r in group.rollouts)) for group in groups]
    found["skipped"] = learner.step(nothing)
    after = weights_of(learner)
    found["kept"] = all(np.array_equal(kept[name], after[name]) for name in after)
    learner.objective = SETTINGS["disco"]
    found["skipped_disco"] = learner.step(
        [replace(with_ladder(g), wins_GG=np.zeros((len(g.rollouts),) * 2)) for g in groups]
    )
    after = weights_of(learner)
    found["kept_disco"] = all(np.array_equal(kept[name], after[name]) for name in after)
    found["skipped_steps"] = learner.num_steps_done
    # Of several updates only those are left out whose groups teach nothing.
    learner.objective = replace(make_objective(), bypass=True)
    before = learner.logprobs(groups[1:])
    found["two_of_three"] = learner.step([nothing[0], *groups[1:]])
    found["two_of_three_gap"] = gap_of(before[:2], groups[1:2])
    found["two_of_three_steps"] = learner.num_steps_done

    # Layers that are run again in the backward pass change no number.
    for stage in (1, 3):
        learner = make_learner(
            model_dir, rank, world_size, port, make_config(zero_stage=stage, gradient_checkpointing=True)
        )
        num_runs = count_checkpointed(learner)
        rows = train(learner, 2)
        found[f"checkpointing-{stage}"] = (rows, num_runs[0])
    learner = make_learner(model_dir, rank, world_size, port, make_config())
    found["not checkpointing"] = train(learner, 2)

    # A model with linear attention learns with a prompt for each answer only, and not in parts: every rank is told.
    learner = make_learner(hybrid_dir, rank, world_size, port, make_config(zero_stage=2, share_prompt=False))
    found["hybrid"] = train(learner, 1)[0]
    for key, faulty in (("shares", {"zero_stage": 2}), ("parts", {"zero_stage": 3, "share_prompt": False})):
        with pytest.raises(UserError) as refusal:
            make_learner(hybrid_dir, rank, world_size, port, make_config(**faulty))
        found[key] = str(refusal.value)

    # Numbers that are not finite, on the last rank only, stop every rank with the weights as they were.
    for stage, dtype in ((0, "float32"), (1, "float32"), (1, "bfloat16"), (2, "bfloat16"), (3, "bfloat16")):
        for fault in ("loss", "gradient"):
            learner = make_learner(model_dir, rank, world_size, port, make_config(zero_stage=stage, dtype=dtype))
            train(learner, 1)
            kept = weights_of(learner)
            if rank == world_size - 1:
                break_loss(learner, fault)
            try:
                learner.step(groups)
                message = "did not stop"
            except RunStopped as error:
                message = str(error)
            after = weights_of(learner)
            same = all(np.array_equal(kept[name], after[name]) for name in after)
            found[f"stop-{stage}-{dtype}-{fault}"] = (message, same)
    return found


def count_checkpointed(learner: Learner) -> list[int]:
    """One number: how many times a layer was run without keeping what is inside it."""
    num_runs = [0]
    for layer in learner.model.base_model.layers:
        real = layer._gradient_checkpointing_func

        def counted(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            num_runs[0] += 1
            return real(*args, **kwargs)

        layer._gradient_checkpointing_func = counted
    return num_runs


def gap_of(logprobs: list[np.ndarray], groups: list[TrainGroup]) -> tuple[float, float]:
    """Mean and largest difference from the engine's, over loss tokens."""
    rows = zip(logprobs, _rollouts(groups), strict=True)
    gaps = np.concatenate([np.abs(row - rollout.rollout_logprobs)[rollout.loss_mask] for row, rollout in rows])
    return float(gaps.mean()), float(gaps.max())


def with_ladder(group: TrainGroup) -> TrainGroup:
    """Each rollout beats all that come after it."""
    size = len(group.rollouts)
    return replace(group, slots=tuple(range(size)), wins_GG=np.triu(np.ones((size, size)), 1))


def break_loss(learner: Learner, fault: str) -> None:
    """From now on the loss is NaN, or it is fine and its gradient is NaN."""
    import torch

    class NanGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, *grad_outputs: Any) -> Any:
            return grad_outputs[0] * torch.nan

    real = learner._loss

    def broken(*args: Any) -> Any:
        loss, metrics = real(*args)
        if fault == "gradient":
            return NanGradient.apply(loss), metrics
        return loss * torch.nan, metrics | {"rl/loss": Sum(float("nan"))}

    learner._loss = broken  # type: ignore[method-assign]


def _without_advantage(rollout: TrainRollout) -> TrainRollout:
    return replace(rollout, advantages=np.zeros_like(rollout.advantages))


def _rollouts(groups: list[TrainGroup]) -> list[TrainRollout]:
    return [rollout for group in groups for rollout in group.rollouts]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_the_learner_keeps_its_promises(model_dirs: dict[str, Path], tmp_path: Path, world_size: int) -> None:
    hybrid_dir = write_model("qwen3_5_text", tmp_path / "hybrid")
    found, *others = run_ranks(
        everything_else, model_dirs["tied"], hybrid_dir, tmp_path, folder=tmp_path, world_size=world_size
    )

    reference = found["bf16-1"]
    for stage in (2, 3):
        for row, other in zip(reference, found[f"bf16-{stage}"], strict=True):
            assert row["rl/loss"] == pytest.approx(other["rl/loss"], abs=0.01)
            assert row["rl/grad_norm"] == pytest.approx(other["rl/grad_norm"], rel=0.02)

    assert found["resumed"]
    assert found["extra"] == {"prior": [0.25]}
    assert found["steps_done"] == 5
    for result in others:
        assert result["resumed"]
        assert without_times(result["updates"]) == without_times(found["updates"])

    assert (found["updates"]["sync/logprob_gap"], found["updates"]["sync/logprob_gap_max"]) == pytest.approx(
        found["gap"], rel=1e-4
    )
    assert found["updates"]["rl/ratio_max"] > 1.0
    bypass = found["bypass"]
    assert (bypass["sync/logprob_gap"], bypass["sync/logprob_gap_max"]) == pytest.approx(found["bypass_gap"], rel=1e-4)
    assert abs(bypass["rl/ratio"] - 1) > 0.1  # the engine's logprobs are made up
    disco = found["disco"]
    assert disco["rl/disco_loss"] != 0
    assert disco["rl/disco_kl"] != 0  # one-token estimates of tokens that the policy did not sample may be negative
    assert disco["rl/num_groups_without_pairs"] == 0
    for result in others:
        assert without_times(result["disco"]) == without_times(disco)
    assert found["kl"][0] == pytest.approx(0.0, abs=1e-9)
    assert found["kl"][2] > 1e-6

    assert found["level"]["rl/num_tokens"] < found["level_full"]["rl/num_tokens"]
    assert found["level"]["rl/policy_loss"] == pytest.approx(found["level_full"]["rl/policy_loss"], abs=1e-6)
    assert found["level"]["rl/grad_norm"] == pytest.approx(found["level_full"]["rl/grad_norm"], rel=1e-5)

    for result in (found, *others):
        for stage in (1, 3):
            rows, num_runs = result[f"checkpointing-{stage}"]
            assert num_runs >= 2 * 2  # layers, steps
            for row, other in zip(rows, found["not checkpointing"], strict=True):
                for metric in ("rl/loss", "rl/grad_norm", "rl/entropy"):
                    assert row[metric] == pytest.approx(other[metric], rel=1e-5, abs=1e-6)
        assert math.isfinite(result["hybrid"]["rl/loss"])
        assert "cannot share a prompt" in result["shares"]
        assert "set rl.learner.share_prompt: false" in result["shares"]
        assert "try rl.learner.zero_stage: 2" in result["parts"]
        assert result["skipped"] == {"rl/skipped": 1.0}
        assert result["kept"]
        assert result["skipped_disco"]["rl/skipped"] == 1.0
        assert result["skipped_disco"]["rl/num_groups_without_pairs"] == 3
        assert result["kept_disco"]
        assert (result["skipped_steps"], result["two_of_three_steps"]) == (1, 2)
    two = found["two_of_three"]
    assert two["rl/skipped"] == 1 / 3
    assert two["rl/grad_norm"] > 0
    assert (two["sync/logprob_gap"], two["sync/logprob_gap_max"]) == pytest.approx(found["two_of_three_gap"], rel=1e-4)

    stops = {key: value for key, value in found.items() if key.startswith("stop-")}
    assert len(stops) == 10
    for key, (message, same) in stops.items():
        assert ("the loss is nan" if key.endswith("loss") else "the gradient is not finite") in message, key
        assert same, key
        for result in others:
            assert result[key] == (message, True)

    check_export(tmp_path / "hf", found["exported"])


def check_export(folder: Path, weights: dict[str, np.ndarray]) -> None:
    """transformers and its tokenizer read the export, and find the learner's numbers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), weights[name])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}])
    assert model.config._attn_implementation == "sdpa"
