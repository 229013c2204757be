"""The divergence from the reference as part of the reward: it enters before rewards are normalised. Pure, no torch.

    R = r - kl_coef sum_t k_t          over the rollout's loss tokens, k of `rl/kl.py`, policy = the learner's before
                                       the update

So a group's mean, std or ranks are those of R. A rollout's sum is one number: no token is told where it diverged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rewards.types import GroupScore
from rl.objective_config import KlEstimator
from rl.types import TrainGroup


def kl_sums(
    groups: Sequence[TrainGroup],
    policy: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    estimator: KlEstimator,
) -> dict[tuple[int, int], float]:
    """Nats by (group_index, slot). `policy` and `reference`: logprobs of each rollout's tokens, through the groups."""
    sums: dict[tuple[int, int], float] = {}
    rows = zip(policy, reference, strict=True)
    for group in groups:
        for slot, rollout in zip(group.slots, group.rollouts, strict=True):
            ours, theirs = (np.asarray(row, dtype=np.float64)[rollout.loss_mask] for row in next(rows))
            sums[group.group_index, slot] = float(_estimate(ours - theirs, estimator).sum())
    return sums


def take_off_rewards(
    scores: Sequence[GroupScore], sums: Mapping[tuple[int, int], float], kl_coef: float
) -> list[GroupScore]:
    """Scores whose rewards are R; rollouts without a sum have none to pay."""
    return [
        replace(
            score,
            rewards=[
                None if reward is None else reward - kl_coef * sums.get((p, slot), 0.0)
                for slot, reward in enumerate(score.rewards)
            ],
        )
        for p, score in enumerate(scores)
    ]


def _estimate(difference: np.ndarray, estimator: KlEstimator) -> np.ndarray:
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference**2 / 2
    return np.expm1(-difference) + difference
