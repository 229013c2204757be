"""GSPO, arXiv 2507.18071: one ratio per answer, the geometric mean of its tokens' ratios.

    s = exp(mean_t (logprob_t - old_t)),   l = - min(s A, clip(s, 1 - 3e-4, 1 + 4e-4) A),   mean over answers

PRESET lets the gradient through the mean. TOKEN_PRESET is GSPO-token: each token has the value s and
the gradient of its own logprob, so that advantages may differ within an answer; where they do not, both are equal.
"""

from dataclasses import replace

from rl.objectives.preset import Preset

PRESET = Preset(
    "sequence",
    clip_low=3e-4,
    clip_high=4e-4,
    aggregation="sequence",
    metric_advantage="mean_std",
    ratio_form="mean",
)
TOKEN_PRESET = replace(PRESET, ratio_form="token")
