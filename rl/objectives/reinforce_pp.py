"""REINFORCE++, arXiv 2501.03262: advantages whitened over the whole batch instead of inside each group.

    PRESET            A = (R - batch mean) / batch std,   R = r - kl_coef sum_t k1;   token clip, mean over all tokens
    BASELINE_PRESET   A = (r - group mean) / batch std of those;   the divergence, k2, is in the loss

Ours whitens over rollouts, and takes a rollout's whole divergence off its reward; the paper does both per token (each
token then pays for the divergence from it on), which needs rewards per token.
"""

from dataclasses import replace

from rl.objectives.preset import Preset

PRESET = Preset(
    "token",
    clip_low=0.2,
    clip_high=0.2,
    aggregation="token",
    metric_advantage="whiten",
    owns_advantage=True,
    kl_estimator="k1",
    kl_in="reward",
)
BASELINE_PRESET = replace(PRESET, metric_advantage="batch_std", kl_estimator="k2", kl_in="loss")
