"""F-GRPO, Factorized GRPO, arXiv 2605.12995: a slate (segment 0) and its ranking (segment 1), each with its own reward.

    A_slate = R_slate - group mean,   A_rank = R_rank - group mean
    loss = l_slate + lambda l_rank,   lambda = segment_weights[1] = 1

Each segment's loss is a mean over its own tokens per answer, then over the answers that have it. The abstract speaks of
a two-phase sequence-level objective; what is public leaves ratio level, clip and divergence open. Ours: one ratio per
segment, as GSPO-token, with its clip; `ratio_level: token` and `sequence` are the other readings.
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "segment",
    clip_low=3e-4,
    clip_high=4e-4,
    aggregation="sequence",
    metric_advantage="mean",
    uses_segments=True,
)
