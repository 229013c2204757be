"""What a token's loss is, given its ratio r and advantage A. Per token, to be minimised.

    clip        - min(r A, clip(r, 1 - low, 1 + high) A); with a dual clip c, for A < 0 no more than - c A
    cispo       - sg[clip(r, 1 - low, 1 + high)] A logprob
    sapo        - A (4 / tau) sigmoid(tau (r - 1)), tau by the sign of A
    gmpo        - A exp(mean of log r cut from above at high for A > 0, from below at -low for A < 0)
    reinforce   - A logprob

Sources: PPO arXiv 1707.06347 (eq. 7), dual clip 1912.09729, CISPO 2506.13585, SAPO 2511.20347, GMPO 2507.20673.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl.objectives import Objective
from rl.ratio import Buckets, log_ratios


class TokenLoss(NamedTuple):
    """loss_BT, ratio_BT, and where the clip took the gradient away (cispo: cut the weight)."""

    loss_BT: Tensor
    ratio_BT: Tensor
    clipped_BT: Tensor


def surrogate_loss(
    logprobs_BT: Tensor, old_BT: Tensor, advantages_BT: Tensor, buckets: Buckets, objective: Objective
) -> TokenLoss:
    """Every input is 0 outside the loss, and so is the loss."""
    log_BT = log_ratios(logprobs_BT, old_BT, buckets, objective.ratio_level, objective.ratio_form)
    low, high = 1 - objective.clip_low, 1 + objective.clip_high
    ratio_BT = log_BT.exp()
    nowhere_BT = torch.zeros_like(buckets.mask_BT)
    if objective.surrogate == "clip":
        gain_BT = torch.minimum(ratio_BT * advantages_BT, ratio_BT.clamp(low, high) * advantages_BT)
        clipped_BT = ((advantages_BT > 0) & (ratio_BT > high)) | ((advantages_BT < 0) & (ratio_BT < low))
        if objective.dual_clip is not None:
            least_BT = torch.where(advantages_BT < 0, objective.dual_clip * advantages_BT, -torch.inf)
            gain_BT = torch.maximum(gain_BT, least_BT)
            clipped_BT |= (advantages_BT < 0) & (ratio_BT > objective.dual_clip)
        return TokenLoss(-gain_BT, ratio_BT, clipped_BT)
    if objective.surrogate == "cispo":
        weight_BT = ratio_BT.detach().clamp(low, high)
        return TokenLoss(-weight_BT * advantages_BT * logprobs_BT, ratio_BT, (ratio_BT > high) | (ratio_BT < low))
    if objective.surrogate == "sapo":
        tau_BT = _by_sign(advantages_BT, *objective.sapo_tau)
        gate_BT = 4 / tau_BT * torch.sigmoid(tau_BT * (ratio_BT - 1))
        return TokenLoss(-gate_BT * advantages_BT, ratio_BT, nowhere_BT)
    if objective.surrogate == "gmpo":
        token_BT = log_ratios(logprobs_BT, old_BT, buckets, "token", "token")
        low_BT = _by_sign(advantages_BT, -torch.inf, -objective.clip_low)
        high_BT = _by_sign(advantages_BT, objective.clip_high, torch.inf)
        cut_BT = token_BT.clamp(low_BT, high_BT)
        mean_BT = buckets.at(objective.ratio_level).means(cut_BT)
        return TokenLoss(-mean_BT.exp() * advantages_BT, ratio_BT, (token_BT > high_BT) | (token_BT < low_BT))
    return TokenLoss(-advantages_BT * logprobs_BT, ratio_BT, nowhere_BT)


def _by_sign(advantages_BT: Tensor, positive: float, other: float) -> Tensor:
    return torch.full_like(advantages_BT, other).masked_fill(advantages_BT > 0, positive)
