"""A slow policy loss with its gradient by hand: plain loops over tokens and floats, nothing shared with `rl/`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rl.objectives import Objective

Rows = list[list[float]]


@dataclass(frozen=True)
class SlowLoss:
    """grad: by each logprob. entropy_grad: by each entropy. ratios: of the loss tokens, row by row."""

    loss: float
    policy_loss: float
    grad: Rows
    entropy_grad: Rows
    clip_fraction: float
    ratios: list[float]


@dataclass(frozen=True)
class Tokens:
    """One answer's loss tokens that share a ratio, seen from one of them."""

    shared: list[int]
    log_ratios: list[float]
    """Of `shared`."""
    place: int
    """Of the token itself in `shared`."""


def slow_policy_loss(
    logprobs: Rows,
    old: Rows,
    advantages: Rows,
    segment_ids: list[list[int]],
    mask: list[list[bool]],
    objective: Objective,
    *,
    ref: Rows | None = None,
    rollout: Rows | None = None,
    entropy: Rows | None = None,
) -> SlowLoss:
    """From the formulas in `policy_loss`'s and `surrogates.py`'s docstrings, one token after the other."""
    tokens = [(b, t) for b, row in enumerate(mask) for t, is_loss in enumerate(row) if is_loss]
    grad, entropy_grad = ([[0.0] * len(row) for row in mask] for _ in range(2))
    ratios: list[float] = []
    loss = policy_loss = 0.0
    num_clipped = 0
    for b, t in tokens:
        answer = [u for c, u in tokens if c == b]
        mine = [u for u in answer if segment_ids[b][u] == segment_ids[b][t]]
        level = objective.ratio_level
        shared = [t] if level == "token" else mine if level == "segment" else answer
        base = rollout if objective.bypass and rollout is not None else old
        view = Tokens(shared, [logprobs[b][u] - base[b][u] for u in shared], shared.index(t))
        ratios.append(math.exp(sum(view.log_ratios) / len(shared)))
        value, slopes, is_clipped = token_loss(view, logprobs[b][t], advantages[b][t], objective)
        num_clipped += is_clipped

        weight = slow_weight(tokens, segment_ids, b, t, objective)
        scale = weight
        if rollout is not None:
            scale *= slow_off_policy_weight([old[b][u] - rollout[b][u] for u in answer], answer.index(t), objective)
        policy_loss += scale * value
        loss += scale * value
        for u, slope in slopes.items():
            grad[b][u] += scale * slope
        if ref is not None and objective.kl_in == "loss":
            kl, slope = slow_kl(logprobs[b][t] - ref[b][t], objective.kl_estimator)
            loss += weight * objective.kl_coef * kl
            grad[b][t] += weight * objective.kl_coef * slope
        if entropy is not None:
            loss -= weight * objective.entropy_coef * entropy[b][t]
            entropy_grad[b][t] -= weight * objective.entropy_coef
    return SlowLoss(loss, policy_loss, grad, entropy_grad, num_clipped / len(tokens), ratios)


def token_loss(
    view: Tokens, logprob: float, advantage: float, objective: Objective
) -> tuple[float, dict[int, float], bool]:
    """Loss, its slope by the logprob of each token that it depends on, and whether a clip acted on this token."""
    me = view.shared[view.place]
    if objective.surrogate == "reinforce":
        return -advantage * logprob, {me: -advantage}, False
    if objective.surrogate == "gmpo":
        return gmpo_loss(view, advantage, objective)
    ratio = math.exp(sum(view.log_ratios) / len(view.shared))
    low, high = 1 - objective.clip_low, 1 + objective.clip_high
    if objective.surrogate == "cispo":
        cut = min(max(ratio, low), high)
        return -cut * advantage * logprob, {me: -cut * advantage}, cut != ratio
    if objective.surrogate == "sapo":
        tau = objective.sapo_tau[0] if advantage > 0 else objective.sapo_tau[1]
        gate = 1 / (1 + math.exp(-tau * (ratio - 1)))
        value, slope, is_clipped = -4 / tau * gate * advantage, -4 * gate * (1 - gate) * ratio * advantage, False
    else:
        gain = min(ratio * advantage, min(max(ratio, low), high) * advantage)
        is_clipped = gain < ratio * advantage
        if objective.dual_clip is not None and advantage < 0 and gain < objective.dual_clip * advantage:
            gain, is_clipped = objective.dual_clip * advantage, True
        value, slope = -gain, 0.0 if is_clipped else -ratio * advantage
    if objective.ratio_form == "token":
        return value, {me: slope}, is_clipped
    return value, {u: slope / len(view.shared) for u in view.shared}, is_clipped


def gmpo_loss(view: Tokens, advantage: float, objective: Objective) -> tuple[float, dict[int, float], bool]:
    cut = []
    for log_ratio in view.log_ratios:
        if advantage > 0:
            cut.append(min(log_ratio, objective.clip_high))
        else:
            cut.append(max(log_ratio, -objective.clip_low))
    value = -advantage * math.exp(sum(cut) / len(cut))
    kept = [a == b for a, b in zip(cut, view.log_ratios, strict=True)]
    slopes = {u: value / len(cut) for u, is_kept in zip(view.shared, kept, strict=True) if is_kept}
    return value, slopes, not kept[view.place]


def slow_weight(
    tokens: list[tuple[int, int]], segment_ids: list[list[int]], b: int, t: int, objective: Objective
) -> float:
    """Of one token's loss in the batch's."""
    segment = segment_ids[b][t]
    in_segment = [(c, u) for c, u in tokens if segment_ids[c][u] == segment]
    mine = [u for c, u in in_segment if c == b]
    weights = objective.segment_weights
    weight = weights[segment] if 0 <= segment < len(weights) else 1.0
    if objective.aggregation == "token":
        return weight / len(in_segment)
    if objective.aggregation == "sequence" or (objective.aggregation == "segment" and segment == -1):
        return weight / len(mine) / len({c for c, _ in in_segment})
    if objective.aggregation == "segment":
        return weight / len(mine) / len({(c, segment_ids[c][u]) for c, u in tokens if segment_ids[c][u] >= 0})
    assert objective.constant_tokens is not None
    return weight / (objective.constant_tokens * len({c for c, _ in tokens}))


def slow_off_policy_weight(log_ratios: list[float], place: int, objective: Objective) -> float:
    """Of the token at `place` among its answer's."""
    knobs = objective.off_policy
    weight = 1.0
    if knobs.weight != "none":
        weight = math.exp(log_ratios[place] if knobs.weight == "token" else sum(log_ratios))
        if knobs.mask_outside:
            weight = weight if knobs.low <= weight <= knobs.high else 0.0
        else:
            weight = min(weight, knobs.high)
    if knobs.geometric_band is not None:
        low, high = knobs.geometric_band
        if not low <= math.exp(sum(log_ratios) / len(log_ratios)) <= high:
            weight = 0.0
    return weight


def slow_kl(difference: float, estimator: str) -> tuple[float, float]:
    """Value, and slope by the policy's logprob."""
    if estimator == "k1":
        return difference, 1.0
    if estimator == "k2":
        return difference**2 / 2, difference
    return math.exp(-difference) - 1 + difference, 1 - math.exp(-difference)
