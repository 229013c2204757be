"""Rank-GRPO, arXiv 2510.20150: every item of a ranked list is a segment with its own reward, advantage and ratio.

    w_k = exp(mean over item k's tokens of (logprob - old)),   l_k = - min(w_k A_k, clip(w_k, 1 - 0.06, 1 + 0.08) A_k)
    A_k = (R_k - mean of R_k over the group) / std,   loss = mean over all items of all answers

The clip is that of the authors' training script. An item that an answer lacks is no item; the paper counts it as one
with loss 0 (its divisor is always N items).
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "segment",
    clip_low=0.06,
    clip_high=0.08,
    aggregation="segment",
    metric_advantage="mean_std",
    ratio_form="mean",
    uses_segments=True,
)
