"""Rollouts that failed a gate stand outside the fit, below everybody who played (ours); soft gates take from rewards.

They never play, so they cost no calls; but they are scored, so that the learner moves away from them. Feeding certain
wins over them into the fit would blow up the group's scale.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

SMOOTHING = 0.01
"""SearchLLM's delta."""

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


def soft_factor(scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The factor that soft gates make of their scores s_i in [0, 1], in [d / (1 + d), 1] with d = 0.01.

    exp(sum_i w_i log((s_i + d) / (1 + d)) / sum_i w_i), a smoothed geometric mean: a soft `and`, in which one bad score
    cannot be made up for, and no score's logarithm can run away. SearchLLM (arXiv 2603.10473) for equal weights; the
    weights are ours. 1 where nothing weighs.
    """
    total = sum(weights[name] for name in scores)
    if not total:
        return 1.0
    logs = (weights[name] * math.log((score + SMOOTHING) / (1.0 + SMOOTHING)) for name, score in scores.items())
    return math.exp(sum(logs) / total)


def apply_factors(
    rewards: Sequence[float | None],
    factors: Mapping[int, float],
    unit: Literal["probability", "strength", "metric"],
) -> list[float | None]:
    """Rewards by slot after soft gates; never more than before, and the less the smaller the factor F.

    `probability`: F r, as SearchLLM multiplies its utility. `strength`: r + log F, because strengths are log-odds in
    batch scales and stand around 0, where a product would do nothing. `metric`: r - (1 - F) |r|, which is F r for a
    metric that is not negative, and takes the same share of the size of one that is. Slots without a
    factor keep theirs.
    """

    def changed(reward: float, factor: float) -> float:
        if unit == "probability":
            return factor * reward
        return reward + math.log(factor) if unit == "strength" else reward - (1.0 - factor) * abs(reward)

    return [
        reward if reward is None or slot not in factors else changed(reward, factors[slot])
        for slot, reward in enumerate(rewards)
    ]
