"""Estimates of KL(policy || reference) from one sampled token, in nats (J. Schulman, "Approximating KL divergence").

    d = logprob - reference       k1 = d       k2 = d^2 / 2       k3 = exp(-d) - 1 + d

All three have about the same mean under the policy. As a loss they differ: k2's gradient is the divergence's, k3's that
of KL(reference || policy), and k1's has mean 0, so that k1 belongs in the reward.
"""

from __future__ import annotations

from torch import Tensor

from rl.objective_config import KlEstimator
from rl.ratio import bounded


def kl_estimate(logprobs_BT: Tensor, reference_BT: Tensor, estimator: KlEstimator) -> Tensor:
    """Per token; differences are cut to +-20 nats, and what is not finite becomes NaN."""
    difference_BT = bounded(logprobs_BT - reference_BT)
    if estimator == "k1":
        return difference_BT
    if estimator == "k2":
        return difference_BT.square() / 2
    return (-difference_BT).expm1() + difference_BT  # expm1 keeps its digits near 0
