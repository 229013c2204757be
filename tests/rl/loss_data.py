"""Objectives and batches that the tests of the loss share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rl.loss import policy_loss
from rl.metrics import Metric
from rl.objective_config import Aggregation, ObjectiveConfig, RatioForm, RatioLevel
from rl.objectives import PRESETS, Objective, OffPolicy, compute_normalizers, resolve_objective

LEVELS: tuple[RatioLevel, ...] = ("token", "segment", "sequence")
AGGREGATIONS: tuple[Aggregation, ...] = ("token", "sequence", "segment", "constant")


def make_objective(
    level: RatioLevel = "token",
    aggregation: Aggregation = "token",
    kl_coef: float = 0.0,
    form: RatioForm = "token",
) -> Objective:
    constant_tokens = 5 if aggregation == "constant" else None
    return Objective("test", "mean", level, 0.2, 0.28, aggregation, constant_tokens, kl_coef, ratio_form=form)


GRPO = Objective("grpo", "mean_std", "token", 0.2, 0.2, "sequence", None, 0.0)
DR_GRPO = Objective("dr_grpo", "mean", "token", 0.2, 0.2, "constant", 4, 0.0)
DAPO = Objective("dapo", "mean", "token", 0.2, 0.28, "token", None, 0.0)


def preset(kind: str, **knobs: object) -> Objective:
    """A preset for metric rewards, with answers of up to 4 tokens."""
    config = ObjectiveConfig.model_validate({"kind": kind} | knobs)
    return resolve_objective(config, reward_kind="metric", shrunk=False, max_tokens=4)


SETTINGS: dict[str, Objective] = {
    **{kind: preset(kind) for kind in PRESETS},
    **{
        f"{level}-{aggregation}": make_objective(level, aggregation) for level in LEVELS for aggregation in AGGREGATIONS
    },
    **{f"{level}-mean_form": make_objective(level, "sequence", form="mean") for level in LEVELS[1:]},
    **{f"kl-{kl}": replace(DAPO, kl_coef=0.1, kl_estimator=kl) for kl in ("k1", "k2", "k3")},
    "kl-in-reward": replace(DAPO, kl_coef=0.1, kl_in="reward"),
    "kl-sequence": make_objective("sequence", "sequence", 0.1),
    "disco-l_ratio": preset("disco", disco={"score": "l_ratio"}),
    "gmpo-segment": replace(preset("gmpo"), ratio_level="segment"),
    "dual_clip": replace(DAPO, dual_clip=1.4),
    "entropy": replace(GRPO, entropy_coef=0.3),
    "weights": replace(make_objective("segment", "sequence", 0.1), segment_weights=(0.5, 2.0), entropy_coef=0.1),
    "weight-0": replace(make_objective("segment", "segment"), segment_weights=(1.0, 0.0)),
    "bypass": replace(DAPO, bypass=True),
    "token-truncate": replace(DAPO, kl_coef=0.1, off_policy=OffPolicy("token", high=1.1)),
    "token-mask": replace(GRPO, off_policy=OffPolicy("token", mask_outside=True, low=0.9, high=1.1)),
    "sequence-truncate": replace(DAPO, off_policy=OffPolicy("sequence", high=1.2)),
    "sequence-mask": replace(DAPO, off_policy=OffPolicy("sequence", mask_outside=True, low=0.8, high=1.2)),
    "rloo-truncate": replace(preset("rloo"), off_policy=OffPolicy("token", high=1.1)),
    "geometric": replace(DAPO, off_policy=OffPolicy("token", high=1.1, geometric_band=(0.97, 1.03))),
}
"""Every preset, and every knob in some of its positions."""


@dataclass(frozen=True)
class Batch:
    """Rollouts in rows, in any dtype; `mask` also has holes, as after a tool's turn."""

    logprobs: Tensor
    old: Tensor
    ref: Tensor
    rollout: Tensor
    entropy: Tensor
    advantages: Tensor
    ids: Tensor
    mask: Tensor

    def take(self, rows: list[int]) -> Batch:
        return Batch(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def loss(self, objective: Objective, normalizers: np.ndarray | None = None) -> tuple[Tensor, dict[str, Metric]]:
        return policy_loss(
            self.logprobs,
            self.old,
            self.advantages,
            self.ids,
            self.mask,
            objective=objective,
            rollout_logprobs_BT=self.rollout,
            ref_logprobs_BT=self.ref if objective.loss_kl_coef > 0 else None,
            entropy_BT=self.entropy,
            normalizers_S=normalizers,
        )

    def loss_and_grad(self, objective: Objective) -> tuple[Tensor, Tensor]:
        loss, _ = self.loss(objective)
        return loss.detach(), torch.autograd.grad(loss, self.logprobs)[0]

    def normalizers(self, objective: Objective) -> np.ndarray:
        return compute_normalizers(self.ids.numpy(), self.mask.numpy(), objective=objective)


def make_batch(
    *,
    segments: bool,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    spread: float = 0.4,
    mismatch: float = 0.15,
) -> Batch:
    """6 rollouts of up to 9 tokens; the last one has no loss token."""
    rng = np.random.default_rng(seed)
    shape = (6, 9)
    old = -rng.exponential(size=shape)
    ids = np.full(shape, -1)
    mask = np.zeros(shape, dtype=bool)
    advantages = np.zeros(shape)
    for b, length in enumerate([9, 4, 7, 1, 8, 0]):
        mask[b, :length] = rng.random(length) < 0.8
        mask[b, : min(length, 1)] = True
        if segments:  # preamble, slate, rank; the fourth rollout has a preamble only
            ids[b] = np.repeat([-1, 0, 1], 3)
        advantages[b] = rng.normal(size=3)[ids[b] + 1]

    def tensor(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=dtype)

    return Batch(
        logprobs=tensor(old + spread * rng.normal(size=shape)).requires_grad_(),
        old=tensor(old),
        ref=tensor(old + 0.3 * rng.normal(size=shape)),
        rollout=tensor(old + mismatch * rng.normal(size=shape)),
        entropy=tensor(rng.exponential(size=shape)).requires_grad_(),
        advantages=tensor(advantages),
        ids=torch.tensor(ids),
        mask=torch.tensor(mask),
    )
