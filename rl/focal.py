"""The focal scale of arXiv 2602.06717: groups that mostly succeed teach less.

Shapes: P prompts (groups), G rollout slots.

    g = (1 - m)^gamma,   m = mean reward of the group's scored rollouts (of those who share a baseline), in [0, 1]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.errors import UserError


def focal_scales(rewards: Sequence[float | None], gamma: float, baseline_ids: Sequence[int] = ()) -> np.ndarray:
    """scale_G of one group's slots, to be multiplied on their advantages; 1 for unscored ones.

    Raises:
        UserError: a reward outside [0, 1].
    """
    values_G = np.array([np.nan if reward is None else reward for reward in rewards], dtype=np.float64)
    if ((values_G < 0) | (values_G > 1)).any():
        wrong = values_G[(values_G < 0) | (values_G > 1)][0]
        raise UserError(
            f"rl.objective.focal_gamma: needs rewards in [0, 1], and one is {wrong:g}; rescale them, or use kind: grpo"
        )
    scales_G = np.ones_like(values_G)
    ids_G = np.asarray(baseline_ids) if len(baseline_ids) else np.zeros(len(values_G), dtype=np.int64)
    for baseline in np.unique(ids_G):
        members_G = (ids_G == baseline) & ~np.isnan(values_G)
        if members_G.any():
            scales_G[members_G] = (1 - values_G[members_G].mean()) ** gamma
    return scales_G
