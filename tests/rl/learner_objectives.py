"""Loss and gradient of many objectives on real ranks, batches cut in several ways; run inside `test_learner.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl import shared_prefix
from rl.config import LearnerConfig, OptimizerConfig, RLConfig
from rl.learner import Learner
from rl.objectives import Objective
from rl.policy import Policy
from rl.types import TrainGroup
from tests.rl.learner_data import make_groups
from tests.rl.loss_data import SETTINGS

OBJECTIVES = (
    *("grpo", "dr_grpo", "dapo", "gspo", "gspo_token", "cispo", "gmpo", "sapo", "rloo", "f_grpo", "rank_grpo"),
    *("disco", "disco-l_ratio", "kl-k2", "weights", "entropy", "bypass", "token-truncate", "geometric"),
)
SHAPES = [(7, [5, 1, 9, 4]), (3, [4, 4]), (11, [2, 12, 3])]
CUTS: dict[str, dict[str, Any]] = {
    "whole": {"micro_batch_tokens": 1000},
    "cut": {"micro_batch_tokens": 30},
    "padded": {"micro_batch_tokens": 60, "share_prompt": False},
}

INIT_STD = 0.02
"""Of the model's weights, as models are really initialised. Float32 is as exact as its model is flat: at 0.1, five
times steeper, the gradient of one uncut batch may be 1.7e-6 of its largest entry away from the gradient in float64."""

TOLERANCE = 1e-6
"""Float32 through a model and back: of a loss (over its size where that is above 1), and of a gradient's largest
difference over its largest entry. In float64 the steep model is held to 5e-7 too (`test_cuts.py`)."""

CONFIG = RLConfig(
    num_steps=1,
    optimizer=OptimizerConfig(lr=1e-30, max_grad_norm=1e9),  # the weights stay, the gradient is not clipped
    learner=LearnerConfig(dtype="float32", logprob_chunk=7, cpu_threads=1, zero_stage=0),
)


def objective_runs(
    rank: int, world_size: int, port: int, model_dir: Path, vocab_size: int
) -> dict[str, tuple[dict[str, float], np.ndarray]]:
    """Metrics and flat gradient of one update by "objective/cut", with ratios, divergences and weights off 1 and 0."""
    learner = Learner(
        model_dir,
        CONFIG,
        objective=SETTINGS["weights"],  # has a reference
        temperature=0.8,
        rank=rank,
        world_size=world_size,
        master_port=port,
    )
    assert isinstance(learner._reference, Policy)
    for parameter in learner._reference.parameters():
        parameter.data.mul_(1.05)
    parameters = [parameter for parameter in learner._policy.parameters() if parameter.requires_grad]
    seen: list[np.ndarray] = []

    def keep_gradient(*_: Any) -> None:
        grads = [p.grad.flatten().numpy().copy() for p in parameters if p.grad is not None]
        assert len(grads) == len(parameters)
        seen.append(np.concatenate(grads))

    learner._basic_optimizer.register_step_pre_hook(keep_gradient)
    plain, segmented, old = make_batches(learner.logprobs, vocab_size)
    found: dict[str, tuple[dict[str, float], np.ndarray]] = {}
    for name in OBJECTIVES:
        learner.objective = SETTINGS[name]
        groups = segmented if SETTINGS[name].uses_segments or name == "weights" else plain
        for cut, keys in CUTS.items():
            learner.config = CONFIG.model_copy(update={"learner": CONFIG.learner.model_copy(update=keys)})
            for policy in (learner._policy, learner._reference):
                policy.model.set_attn_implementation(
                    shared_prefix.register() if learner.config.learner.share_prompt else "sdpa"
                )
            metrics = learner._update(groups, old)
            found[f"{name}/{cut}"] = ({key: metric.result or 0.0 for key, metric in metrics.items()}, seen[-1])
    return found


def make_batches(
    logprobs: Callable[[Sequence[TrainGroup]], list[np.ndarray]], vocab_size: int
) -> tuple[list[TrainGroup], list[TrainGroup], list[np.ndarray]]:
    """A batch without and one with segments, and old logprobs of both; the engine's are near the old ones."""
    rng = np.random.default_rng(5)
    groups = make_groups(SHAPES, vocab_size=vocab_size, masked=True)
    current = iter(logprobs(groups))
    old: list[np.ndarray] = []
    plain: list[TrainGroup] = []
    for group in groups:
        answers = []
        for rollout in group.rollouts:
            row = next(current) + rng.normal(0, 0.15, len(rollout.token_ids)).astype(np.float32)
            old.append(row)
            engine = row + rng.normal(0, 0.05, len(row)).astype(np.float32)
            answers.append(replace(rollout, rollout_logprobs=engine))
        wins_GG = np.triu(rng.random((len(answers), len(answers))), 1)
        wins_GG += np.tril(1 - wins_GG.T, -1)
        plain.append(replace(group, rollouts=tuple(answers), slots=tuple(range(len(answers))), wins_GG=wins_GG))
    return plain, [replace(group, rollouts=_with_segments(group, rng)) for group in plain], old


def _with_segments(group: TrainGroup, rng: np.random.Generator) -> tuple[Any, ...]:
    """Thirds: none, slate, rank, each with an advantage of its own."""
    answers = []
    for rollout in group.rollouts:
        ids = (np.arange(len(rollout.token_ids)) * 3 // len(rollout.token_ids) - 1).astype(np.int32)
        by_segment = rng.normal(size=3).astype(np.float32)
        answers.append(replace(rollout, segment_ids=ids, advantages=by_segment[ids + 1] * rollout.loss_mask))
    return tuple(answers)


def check_objective_runs(one: dict[str, Any], others: Sequence[dict[str, Any]]) -> None:
    """Every cut and number of ranks gives the loss and the gradient of the whole batch on one rank."""
    for name in OBJECTIVES:
        metrics, gradient = one[f"{name}/whole"]
        assert np.abs(gradient).max() > 1e-4, name
        assert is_off_policy(SETTINGS[name], metrics), name
        for result in (one, *others):
            for cut in CUTS:
                other, other_gradient = result[f"{name}/{cut}"]
                for key in ("rl/loss", "rl/policy_loss", "rl/grad_norm", "rl/disco_loss"):
                    same = pytest.approx(metrics.get(key, 0.0), rel=TOLERANCE, abs=TOLERANCE)
                    assert other.get(key, 0.0) == same, (name, cut, key)
                error = np.abs(other_gradient - gradient).max() / np.abs(gradient).max()
                assert error <= TOLERANCE, (name, cut, error)


def is_off_policy(objective: Objective, metrics: dict[str, float]) -> bool:
    return abs(metrics["rl/ratio"] - 1) > 1e-6 and (objective.loss_kl_coef == 0 or metrics["rl/kl"] > 1e-6)
