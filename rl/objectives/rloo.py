"""RLOO, arXiv 2402.14740: REINFORCE with the mean of the other answers as baseline.

    loss = - mean over answers of A sum_t logprob_t,   A = R - mean of the others' R,   R = r - kl_coef sum_t k1

The sum is divided by a constant, which an Adam step does not see.
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "token",
    clip_low=0.0,
    clip_high=0.0,
    aggregation="constant",
    metric_advantage="rloo",
    owns_advantage=True,
    surrogate="reinforce",
    kl_estimator="k1",
    kl_in="reward",
)
