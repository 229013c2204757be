"""Loss and gradient through a model: micro-batches, packing, padding and shares of ranks change nothing.

To 1e-6 in float32, and to half of that in float64 with a steeper model. Plain torch, without DeepSpeed: what ranks add
up, `test_learner.py` sees for real, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rl import shared_prefix
from rl.batching import MicroBatch, build_micro_batches
from rl.config import LearnerConfig
from rl.disco import disco_pass
from rl.micro_batch_loss import micro_batch_loss
from rl.objectives import Objective, compute_normalizers
from rl.policy import Policy, load_policy
from rl.types import TrainGroup
from rollouts.tiny import build_tiny_model
from tests.rl.learner_objectives import CUTS, INIT_STD, TOLERANCE, make_batches
from tests.rl.loss_data import SETTINGS

VOCAB = 384
FLOAT64_TOLERANCE = 5e-7
"""The model's norms round to float32, whatever the dtype of the rest."""


class Model:
    """A policy and a reference that differs from it."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float64):
        config = LearnerConfig(dtype="float32", logprob_chunk=7)
        self.policy, self.reference = (load_policy(folder, config, temperature=0.8).to(dtype) for _ in range(2))
        for parameter in self.reference.parameters():
            parameter.data.mul_(1.05)

    def batches(self, groups: Sequence[TrainGroup], cut: str, world_size: int) -> list[MicroBatch]:
        """Of all ranks, one after the other, fillers left out."""
        keys = {"share_prompt": True} | CUTS[cut]
        for policy in (self.policy, self.reference):
            policy.model.set_attn_implementation(shared_prefix.register() if keys["share_prompt"] else "sdpa")
        batches = [
            batch
            for rank in range(world_size)
            for batch in build_micro_batches(
                groups,
                max_tokens=keys["micro_batch_tokens"],
                share_prompt=keys["share_prompt"],
                rank=rank,
                world_size=world_size,
            )
        ]
        return [batch for batch in batches if not batch.is_filler]

    @torch.no_grad()
    def logprobs(self, groups: Sequence[TrainGroup]) -> list[np.ndarray]:
        rows: dict[int, np.ndarray] = {}
        for batch in self.batches(groups, "whole", 1):
            rows |= dict(zip(batch.rollout_ids_B, self.policy(batch)[0].numpy(), strict=True))
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        return [rows[number][: len(rollout.token_ids)] for number, rollout in enumerate(rollouts)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small are slower with more
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(build_tiny_model(tmp_path_factory.mktemp("model") / "m", head_dim=16, init_std=0.1))


@pytest.fixture(scope="module")
def float32_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = build_tiny_model(tmp_path_factory.mktemp("model") / "m", head_dim=16, init_std=INIT_STD)
    return Model(folder, torch.float32)


def loss_and_gradient(
    model: Model, groups: Sequence[TrainGroup], old: Sequence[np.ndarray], objective: Objective, cut: str, ranks: int
) -> tuple[float, torch.Tensor]:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    normalizers_S = compute_normalizers(
        [rollout.segment_ids for rollout in rollouts], [rollout.loss_mask for rollout in rollouts], objective=objective
    )
    model.policy.zero_grad()
    total = 0.0
    for batch in model.batches(groups, cut, ranks):
        loss, _ = micro_batch_loss(batch, model.policy, model.reference, objective, normalizers_S, old)
        loss.backward()
        total += loss.item()
    return total, _gradient(model.policy)


def _gradient(policy: Policy) -> torch.Tensor:
    grads = [parameter.grad for parameter in policy.parameters()]
    return torch.cat([grad.flatten().clone() for grad in grads if grad is not None])


NAMES = ("grpo", "gspo", "gmpo", "f_grpo", "disco-l_ratio", "weights", "entropy", "geometric")
SHARES = (("cut", 1), ("padded", 1), ("cut", 2), ("padded", 3))


@pytest.mark.parametrize("name", NAMES)
def test_no_cut_changes_loss_or_gradient(model: Model, name: str) -> None:
    objective, groups, old = batch_of(model, name)
    loss, gradient = loss_and_gradient(model, groups, old, objective, "whole", 1)
    assert gradient.abs().max() > 1e-3
    for cut, ranks in SHARES:
        other, other_gradient = loss_and_gradient(model, groups, old, objective, cut, ranks)
        assert other == pytest.approx(loss, abs=FLOAT64_TOLERANCE), (cut, ranks)
        torch.testing.assert_close(other_gradient, gradient, rtol=0, atol=FLOAT64_TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_no_cut_changes_loss_or_gradient_in_float32(float32_model: Model, name: str) -> None:
    objective, groups, old = batch_of(float32_model, name)
    loss, gradient = loss_and_gradient(float32_model, groups, old, objective, "whole", 1)
    largest = gradient.abs().max().item()
    assert largest > 1e-3
    for cut, ranks in SHARES:
        other, other_gradient = loss_and_gradient(float32_model, groups, old, objective, cut, ranks)
        assert other == pytest.approx(loss, rel=TOLERANCE, abs=TOLERANCE), (cut, ranks)
        torch.testing.assert_close(other_gradient, gradient, rtol=0, atol=TOLERANCE * largest)


def batch_of(model: Model, name: str) -> tuple[Objective, Sequence[TrainGroup], list[np.ndarray]]:
    objective = SETTINGS[name]
    plain, segmented, old = make_batches(model.logprobs, VOCAB)
    groups: Sequence[TrainGroup] = segmented if objective.uses_segments or name == "weights" else plain
    if objective.disco is not None:
        groups = disco_pass(groups, model.logprobs(groups), old, knobs=objective.disco).groups
    return objective, groups, old
