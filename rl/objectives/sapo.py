"""SAPO, arXiv 2511.20347: a soft gate instead of a clip.

    l_t = - A (4 / tau) sigmoid(tau (r_t - 1)),   tau = 1.0 for A > 0 and 1.05 for A < 0

At r = 1 its slope is that of the plain ratio; mean over an answer's tokens, then over answers.
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "token", clip_low=0.0, clip_high=0.0, aggregation="sequence", metric_advantage="mean_std", surrogate="sapo"
)
