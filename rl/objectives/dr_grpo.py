"""Dr.GRPO, arXiv 2503.20783: GRPO without its two biases, division by the answer's length and by the group's std.

loss = sum of l_t / (constant_tokens x rollouts),   A = r - mean
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "token", clip_low=0.2, clip_high=0.2, aggregation="constant", metric_advantage="mean", refuses=("mean_std",)
)
