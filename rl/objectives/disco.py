"""DisCO, arXiv 2505.12366: answers that beat others are pushed over them, in a tournament pair by pair.

    s_i = mean_t logprob_t  (log_l)   or   mean_t exp(logprob_t - old_t)  (l_ratio)
    loss = mean over groups of  sum_i w_i tau log( sum_j W_ij exp((s_j - s_i) / tau) / sum_j W_ij ),   w_i ~ sum_j W_ij
         + kl_penalty max(KL(old || current) - kl_limit, 0)^2

W_ij = P(i beats j), from the matches played, else 1 where reward i is higher (`rl/disco.py`); with rewards 0 and 1 this
is the paper's J2. Scores of the whole batch come first, in a pass without gradient; their weights are the advantages
of the second pass. So `rl/policy_loss` is not this loss's value; `rl/disco_loss` is.
"""

from rl.objectives.preset import Preset

PRESET = Preset(
    "token",
    clip_low=0.0,
    clip_high=0.0,
    aggregation="sequence",
    metric_advantage="mean",
    surrogate="reinforce",
)
