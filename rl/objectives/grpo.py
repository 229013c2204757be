"""GRPO, arXiv 2402.03300, eq. 3: token ratio, mean over an answer's tokens, then over answers; A = (r - mean) / std.

l_t = - min(r_t A, clip(r_t, 1 - 0.2, 1 + 0.2) A) + kl_coef k3
"""

from rl.objectives.preset import Preset

PRESET = Preset("token", clip_low=0.2, clip_high=0.2, aggregation="sequence", metric_advantage="mean_std")
