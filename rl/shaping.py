"""What an objective asks of a batch beyond its advantages: divergence off the rewards, focal scale, who beats whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Protocol

import numpy as np

from rewards.types import GroupScore
from rl.focal import focal_scales
from rl.kl_reward import kl_sums, take_off_rewards
from rl.objectives import Objective
from rl.pair_weights import pair_wins
from rl.train_batch import TrainBatch
from rl.types import TrainGroup


class LogprobSource(Protocol):
    """The learner, as far as rewards need it."""

    async def logprobs(self, groups: Sequence[TrainGroup], *, reference: bool = False) -> list[np.ndarray]: ...


async def shape_batch(
    batch: TrainBatch,
    scores: Sequence[GroupScore],
    build: Callable[[Sequence[GroupScore]], TrainBatch],
    *,
    objective: Objective,
    learner: LogprobSource,
) -> TrainBatch:
    """The batch as the objective wants it, with `reward/kl` among its metrics where rewards pay for the divergence.

    Args:
        batch: `build(scores)`, not empty.
        build: scores to batch; asked once more where rewards change.

    Raises:
        UserError: as `shape_groups`.
    """
    if objective.reward_kl_coef > 0:
        policy = await learner.logprobs(batch.groups)
        reference = await learner.logprobs(batch.groups, reference=True)
        sums = kl_sums(batch.groups, policy, reference, objective.kl_estimator)
        batch = build(take_off_rewards(scores, sums, objective.reward_kl_coef))
        batch = replace(batch, metrics=batch.metrics | {"reward/kl": fmean(sums.values())})
    return replace(batch, groups=shape_groups(batch.groups, scores, objective))


def shape_groups(
    groups: Sequence[TrainGroup], scores: Sequence[GroupScore], objective: Objective
) -> tuple[TrainGroup, ...]:
    """The groups, ready for the learner; `scores[group.group_index]` is a group's score, with the rewards as they came.

    Raises:
        UserError: rewards outside [0, 1] under a focal scale.
    """
    shaped = list(groups)
    if objective.focal_gamma > 0:
        shaped = [_focal(group, scores[group.group_index], objective.focal_gamma) for group in shaped]
    if objective.disco is not None:
        shaped = [replace(group, wins_GG=pair_wins(scores[group.group_index], group.slots)) for group in shaped]
    return tuple(shaped)


def _focal(group: TrainGroup, score: GroupScore, gamma: float) -> TrainGroup:
    scales_G = focal_scales(score.rewards, gamma, score.baseline_ids)
    rollouts = [
        replace(rollout, advantages=rollout.advantages * np.float32(scales_G[slot]))
        for slot, rollout in zip(group.slots, group.rollouts, strict=True)
    ]
    return replace(group, rollouts=tuple(rollouts))
