"""CISPO, arXiv 2506.13585: the clipped ratio is a weight without gradient, so no token loses its gradient.

    l_t = - sg[clip(r_t, 1 - clip_low, 1 + clip_high)] A logprob_t,   mean over all tokens of the batch

No lower bound and an upper one of 5, as ScaleRL (arXiv 2510.13786) and TRL (`epsilon_high: 5`) set it.
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "token", clip_low=1.0, clip_high=4.0, aggregation="token", metric_advantage="mean_std", surrogate="cispo"
)
