"""Focal GRPO, arXiv 2602.06717 (there called F-GRPO): GRPO that turns down groups which mostly succeed.

    A = (1 - m)^gamma (r - mean) / std,   m = the group's mean reward, in [0, 1];   gamma = 0.5

Rewards must be success rates or the like: inside a group the mean win rate is always 1/2, so there it is a constant.
`focal_gamma` does the same to other presets.
"""

from dataclasses import replace

from rl.objectives import grpo

PRESET = replace(grpo.PRESET, focal_gamma=0.5)
