"""DAPO, arXiv 2503.14476, eq. 8: GRPO with a higher upper clip and the mean over all tokens of the batch.

podium's default, so its advantage leaves small differences small (the paper divides by the group's std).
"""

from rl.objectives.preset import Preset

PRESET = Preset("token", clip_low=0.2, clip_high=0.28, aggregation="token", metric_advantage="mean")
