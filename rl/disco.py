"""DisCO (arXiv 2505.12366), pair-weighted: pure. From scores of whole answers to advantages of their tokens.

Shapes: G rollouts of a group.

    per group    D = sum_i w_i tau log( sum_j W_ij exp((s_j - s_i) / tau) / W_i ),   W_i = sum_j W_ij, w_i = W_i / sum W
    whole batch  loss = mean of D over groups + kl_penalty max(KL - kl_limit, 0)^2,   KL = token mean of (old - logprob)

s_i is the mean logprob of rollout i (`log_l`) or its mean ratio (`l_ratio`). W_ij = P(i beats j); where it is 1 for a
right i and a wrong j and 0 elsewhere, D is the paper's J2 with the sign turned, and a large tau gives its plain form,
mean over wrong s minus mean over right s. A group where nobody beats anybody has D = 0 and counts in the mean.

The gradient by s is known once all s are. So a first pass computes scores; -dD/ds then weighs each token's logprob (or
ratio) in a second, whose gradient is the loss's. The pull of KL is added to the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp, softmax

from rl.objectives import Disco
from rl.types import Float64Array, TrainGroup


@dataclass(frozen=True, slots=True, eq=False)
class DiscoPass:
    """The groups with their second pass's advantages, and what the first pass found."""

    groups: tuple[TrainGroup, ...]
    loss: float
    kl: float
    num_groups_without_pairs: int


def group_loss(scores_G: Float64Array, wins_GG: Float64Array, tau: float) -> tuple[float, Float64Array]:
    """D and dD/ds; zeros where nobody beats anybody."""
    total = wins_GG.sum()
    if total == 0:
        return 0.0, np.zeros_like(scores_G)
    winners = wins_GG.sum(axis=1) > 0
    shares_W = wins_GG[winners].sum(axis=1) / total
    gaps_WG = (scores_G[None, :] - scores_G[winners, None]) / tau
    wins_WG = wins_GG[winners]
    loss = float(shares_W @ (tau * (logsumexp(gaps_WG, b=wins_WG, axis=1) - np.log(wins_WG.sum(axis=1)))))
    with np.errstate(divide="ignore"):
        pull_WG = softmax(gaps_WG + np.log(wins_WG), axis=1)
    gradient_G = shares_W @ pull_WG
    gradient_G[winners] -= shares_W
    return loss, gradient_G


def disco_pass(
    groups: Sequence[TrainGroup],
    current: Sequence[np.ndarray],
    old: Sequence[np.ndarray] | None,
    *,
    knobs: Disco,
) -> DiscoPass:
    """Advantages under which `policy_loss` (aggregation `sequence`) has the gradient of DisCO's loss.

    Args:
        groups: all of one optimizer update, with `wins_GG`.
        current, old: logprobs of each rollout's answer tokens, through the groups; old None = the same.

    Raises:
        ValueError: a group without `wins_GG`.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    old = current if old is None else old
    log_ratios = [
        (np.asarray(now, np.float64) - np.asarray(before, np.float64))[rollout.loss_mask]
        for now, before, rollout in zip(current, old, rollouts, strict=True)
    ]
    if knobs.score == "log_l":
        scores = [_mean(np.asarray(row, np.float64)[r.loss_mask]) for row, r in zip(current, rollouts, strict=True)]
    else:
        scores = [_mean(np.exp(row)) for row in log_ratios]
    num_tokens = sum(len(row) for row in log_ratios)
    num_rollouts = sum(len(row) > 0 for row in log_ratios)
    kl = -float(sum(row.sum() for row in log_ratios)) / max(num_tokens, 1)
    excess = max(kl - knobs.kl_limit, 0.0)
    pull = 2 * knobs.kl_penalty * excess / max(num_tokens, 1)

    shaped: list[TrainGroup] = []
    losses: list[float] = []
    num_without = 0
    start = 0
    for group in groups:
        end = start + len(group.rollouts)
        if group.wins_GG is None:
            raise ValueError(f"group {group.group_index} does not know who beats whom")
        loss, gradient_G = group_loss(np.array(scores[start:end]), group.wins_GG, knobs.tau)
        losses.append(loss)
        num_without += not group.wins_GG.any()
        answers = []
        for rollout, slope, row in zip(group.rollouts, gradient_G, log_ratios[start:end], strict=True):
            # policy_loss divides a token by its answer's length and the number of answers: undone for the pull.
            advantages = np.zeros(len(rollout.token_ids), dtype=np.float32)
            through = np.exp(-row) if knobs.score == "l_ratio" else 1.0
            advantages[rollout.loss_mask] = num_rollouts * (-slope / len(groups) + pull * len(row) * through)
            answers.append(replace(rollout, advantages=advantages))
        shaped.append(replace(group, rollouts=tuple(answers)))
        start = end
    total = float(np.mean(losses)) + knobs.kl_penalty * excess**2 if losses else 0.0
    return DiscoPass(tuple(shaped), total, kl, num_without)


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else 0.0
