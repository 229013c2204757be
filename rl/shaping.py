"""What an objective asks of a group beyond its advantages: the focal scale, and who beats whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rewards.types import GroupScore
from rl.focal import focal_scales
from rl.objectives import Objective
from rl.pair_weights import pair_wins
from rl.types import TrainGroup


def shape_groups(
    groups: Sequence[TrainGroup], scores: Sequence[GroupScore], objective: Objective
) -> tuple[TrainGroup, ...]:
    """The groups, ready for the learner; `scores[group.group_index]` is a group's score.

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
