"""Slow, obvious versions of the maths in `rl/`: plain loops over floats, nothing shared with the code they check."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rl.objectives import Objective

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


@dataclass(frozen=True)
class SlowLoss:
    loss: float
    grad: list[list[float]]
    clip_fraction: float
    ratios: list[list[float | None]]


def slow_policy_loss(
    logprobs: list[list[float]],
    old: list[list[float]],
    advantages: list[list[float]],
    segment_ids: list[list[int]],
    mask: list[list[bool]],
    objective: Objective,
    ref: list[list[float]] | None = None,
) -> SlowLoss:
    """Loss and its gradient by each logprob, token by token, from the formulas in `policy_loss`'s docstring."""
    tokens = [(b, t) for b, row in enumerate(mask) for t, is_loss in enumerate(row) if is_loss]
    num_rollouts = len({b for b, _ in tokens})
    grad = [[0.0] * len(row) for row in mask]
    ratios: list[list[float | None]] = [[None] * len(row) for row in mask]
    loss, num_clipped = 0.0, 0
    for b, t in tokens:
        segment = segment_ids[b][t]
        mine = [u for c, u in tokens if c == b and segment_ids[b][u] == segment]

        if objective.ratio_level == "token":
            shared = [t]
        elif objective.ratio_level == "segment":
            shared = mine
        else:
            shared = [u for c, u in tokens if c == b]
        ratio = math.exp(sum(logprobs[b][u] - old[b][u] for u in shared) / len(shared))
        ratios[b][t] = ratio
        advantage = advantages[b][t]
        clipped_ratio = min(max(ratio, 1 - objective.clip_low), 1 + objective.clip_high)
        policy = -min(ratio * advantage, clipped_ratio * advantage)
        is_clipped = clipped_ratio * advantage < ratio * advantage
        num_clipped += is_clipped
        slope = 0.0 if is_clipped else -ratio * advantage

        kl = kl_slope = 0.0
        if ref is not None:
            difference = ref[b][t] - logprobs[b][t]
            kl = math.exp(difference) - difference - 1
            kl_slope = 1 - math.exp(difference)

        in_segment = [(c, u) for c, u in tokens if segment_ids[c][u] == segment]
        if objective.aggregation == "token":
            weight = 1 / len(in_segment)
        elif objective.aggregation == "sequence":
            weight = 1 / len(mine) / len({c for c, _ in in_segment})
        else:
            assert objective.constant_tokens is not None
            weight = 1 / (objective.constant_tokens * num_rollouts)
        loss += weight * (policy + objective.kl_coef * kl)
        grad[b][t] = weight * (slope + objective.kl_coef * kl_slope)
    return SlowLoss(loss, grad, num_clipped / len(tokens), ratios)


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
