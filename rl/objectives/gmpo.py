"""GMPO, arXiv 2507.20673: a geometric instead of an arithmetic mean over an answer's tokens.

    l = - A exp(mean_t z_t),   z_t = min(log r_t, clip_high) for A > 0, max(log r_t, - clip_low) for A < 0

The bounds are those of the log-ratio: ratios in (e^-0.4, e^0.4). A must be the same for all tokens of a mean.
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "sequence",
    clip_low=0.4,
    clip_high=0.4,
    aggregation="sequence",
    metric_advantage="mean_std",
    surrogate="gmpo",
    ratio_form="mean",
)
