"""Where rollouts that failed a gate stand: outside the fit, below everybody who played (ours).

They never play, so they cost no calls; but they are scored, so that the learner moves away from them. Feeding certain
wins over them into the fit would blow up the group's scale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

STRENGTH_MARGIN = 1.0
"""How far below the survivors a failed rollout stands, in batch scales."""


def merge_gated(
    rewards: Sequence[float | None],
    survivors: Collection[int],
    failed: Collection[int],
    unit: Literal["probability", "strength"],
) -> list[float | None]:
    """Rewards of a whole group from the survivors' rewards and the slots that failed a gate.

    `probability`: a survivor beats every failed rollout for certain. Its reward p is a mean over the n - 1 other scored
    survivors, so with f failed it becomes (p (n - 1) + f) / (n + f - 1); failed rollouts get 0.
    `strength`: failed rollouts get min(lowest survivor, 0) - 1; survivors keep theirs.
    A lone survivor has nobody to play: it is scored 1 (probability) or 0 (strength) against the failed ones.
    A group in which all failed is all 0. Slots in neither set, and survivors without a reward, stay unscored (None).
    """
    merged = list(rewards)
    if not failed:
        return merged
    if len(survivors) == 1:
        (lone,) = survivors
        merged[lone] = 0.5 if unit == "probability" else 0.0
    scored = [i for i in survivors if merged[i] is not None]
    num_scored, num_failed = len(scored), len(failed)
    if unit == "probability":
        for i in scored:
            reward = merged[i]
            assert reward is not None
            merged[i] = (reward * (num_scored - 1) + num_failed) / (num_scored + num_failed - 1)
        floor = 0.0
    else:
        floor = min([0.0, *(reward for i in scored if (reward := merged[i]) is not None)])
        floor -= STRENGTH_MARGIN if survivors else 0.0
    for i in failed:
        merged[i] = floor
    return merged
