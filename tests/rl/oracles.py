"""Slow, obvious versions of the maths in `rl/`: plain loops over floats, nothing shared with the code they check."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

Rewards = Sequence[Sequence[float | None]]


def slow_advantages(
    rewards: Rewards, kind: str, baseline_ids: Sequence[Sequence[int]] | None = None
) -> list[list[float]]:
    """Advantages of ragged groups, one baseline at a time. Flat baselines must be exactly flat."""
    if kind == "whiten":
        values = [reward for group in rewards for reward in group if reward is not None]
        std = statistics.pstdev(values) if len(values) > 1 else 0.0
        mean = math.fsum(values) / max(len(values), 1)
        return [[0.0 if r is None or std == 0 else (r - mean) / std for r in group] for group in rewards]
    baselines: list[list[tuple[int, int]]] = []
    for p, group in enumerate(rewards):
        members: dict[int, list[tuple[int, int]]] = {}
        for i, reward in enumerate(group):
            if reward is not None:
                members.setdefault(baseline_ids[p][i] if baseline_ids else 0, []).append((p, i))
        baselines.extend(slots for slots in members.values() if len(slots) >= 2)

    def reward_of(slot: tuple[int, int]) -> float:
        reward = rewards[slot[0]][slot[1]]
        assert reward is not None
        return reward

    batch_centred = []
    for slots in baselines:
        mean = math.fsum(reward_of(slot) for slot in slots) / len(slots)
        batch_centred += [reward_of(slot) - mean for slot in slots]
    batch_std = math.sqrt(statistics.fmean(c * c for c in batch_centred)) if batch_centred else 0.0

    advantages = [[0.0] * len(group) for group in rewards]
    for slots in baselines:
        values = [reward_of(slot) for slot in slots]
        if max(values) == min(values):
            continue
        n = len(slots)
        mean = math.fsum(values) / n
        perfect = statistics.pstdev(i / (n - 1) for i in range(n))
        for p, i in slots:
            own = reward_of((p, i))
            if kind == "mean":
                advantage = own - mean
            elif kind == "constant":
                advantage = (own - mean) / perfect
            elif kind == "mean_std":
                advantage = (own - mean) / statistics.pstdev(values)
            elif kind == "batch_std":
                advantage = (own - mean) / batch_std
            elif kind == "rloo":
                others = list(values)
                others.remove(own)
                advantage = own - math.fsum(others) / len(others)
            else:
                beaten = sum(own > value for value in values) + (sum(own == value for value in values) - 1) / 2
                advantage = (beaten / (n - 1) - 0.5) / perfect
            advantages[p][i] = advantage
    return advantages


def slow_bootstrap_ci95(per_prompt: list[float], num_resamples: int, seed: int) -> tuple[float, float]:
    """Percentile interval, one resample and one draw at a time, over the same random draws."""
    n = len(per_prompt)
    draws = np.random.default_rng(seed).integers(0, n, size=(num_resamples, n)).tolist()
    means = sorted(math.fsum(per_prompt[i] for i in draw) / n for draw in draws)

    def percentile(share: float) -> float:
        position = share * (num_resamples - 1)
        below = math.floor(position)
        above = min(below + 1, num_resamples - 1)
        return means[below] + (position - below) * (means[above] - means[below])

    return percentile(0.025), percentile(0.975)
