"""Weights for tokens that the engine sampled with probabilities which are not quite the learner's.

    w_t = pi_old(y_t) / pi_rollout(y_t)          old = the learner at the start of the batch, rollout = the engine

    token      w_t            truncate: min(w_t, high)            mask (IcePop): w_t inside [low, high], else 0
    sequence   prod_t w_t     the same, of the whole rollout
    geometric band            0 for rollouts whose exp(mean_t log w_t) is outside, whatever the weight

Truncated importance sampling as in IMPALA, arXiv 1802.01561; IcePop is from arXiv 2510.18855. Weights multiply the
policy loss only. The mismatch is measured before anything is cut.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rl.objectives import OffPolicy
from rl.ratio import Buckets, bounded


def off_policy_weights(old_BT: Tensor, rollout_BT: Tensor, buckets: Buckets, knobs: OffPolicy) -> Tensor:
    """Per token, without gradient; logprobs are 0 outside the loss."""
    log_BT = (old_BT - rollout_BT).detach()
    answer = buckets.at("sequence")
    weights_BT = torch.ones_like(log_BT)
    if knobs.weight != "none":
        log_weight_BT = log_BT if knobs.weight == "token" else answer.sums(log_BT)
        weights_BT = bounded(log_weight_BT).exp()
        if knobs.mask_outside:
            outside_BT = (weights_BT < knobs.low) | (weights_BT > knobs.high)
            weights_BT = weights_BT.masked_fill(outside_BT, 0.0)
        else:
            weights_BT = weights_BT.clamp(max=knobs.high)
    if knobs.geometric_band is not None:
        low, high = knobs.geometric_band
        mean_BT = bounded(answer.means(log_BT)).exp()
        weights_BT = weights_BT.masked_fill((mean_BT < low) | (mean_BT > high), 0.0)
    return weights_BT
