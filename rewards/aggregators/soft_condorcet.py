"""Soft Condorcet optimisation: ratings that agree with most verdicts (Lanctot et al., arXiv 2411.00119).

    loss = sum over i, j of  w_ij sigmoid((r_j - r_i) / temperature)         w_ij: weighted wins of i over j

A smooth count of contradicted verdicts: an upset costs 1 at most, where Bradley-Terry's log-loss has no bound.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregator_config import SoftCondorcet
from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading, mean_over_scored
from rewards.aggregators.laplace import sigmoid
from rewards.aggregators.votes import FloatArray

_MAX_STEPS = 5000
_MOMENTUM = 0.9
_TOLERANCE = 1e-7
_CURVATURE = 0.0963
"""The largest second derivative of the sigmoid."""


class SoftCondorcetAggregator(GroupAggregator):
    """Gradient descent on loss + |r|^2 / (2 prior_sd^2) from the centred win rates; the penalty keeps ratings finite.

    The loss is not convex: another start may end elsewhere, so the start is fixed, and ratings are rounded to 1e-9 in
    every step, which keeps the order of the additions from deciding a tie.
    reward_i: mean over the scored others of sigmoid((r_i - r_j) / temperature). There is no noise model.
    """

    def __init__(self, config: SoftCondorcet, *, min_verdicts: int = 1) -> None:
        super().__init__(min_verdicts=min_verdicts, judge_weights=config.judge_weights)
        self._temperature, self._prior_sd = config.temperature, config.prior_sd

    def _read(self, votes: GroupVotes) -> Reading:
        ratings_N = minimise(votes.wins_NN, self._temperature, self._prior_sd)
        wins_NN = sigmoid((ratings_N[:, None] - ratings_N[None, :]) / self._temperature)
        return Reading(mean_over_scored(wins_NN, votes.scored_N), strengths_N=ratings_N)


def minimise(wins_NN: FloatArray, temperature: float, prior_sd: float) -> FloatArray:
    """Ratings_N at a local minimum of the penalised loss, centred.

    Raises:
        ArithmeticError: no local minimum was reached.
    """
    met_NN = wins_NN + wins_NN.T
    rates_N = wins_NN.sum(1) / np.maximum(met_NN.sum(1), 1e-12)
    ratings_N = (2.0 * rates_N - 1.0) * temperature
    penalty = prior_sd**-2.0
    # Gershgorin: no eigenvalue of the Hessian is above twice the busiest candidate's curvature.
    step = 1.0 / (2.0 * _CURVATURE * float(met_NN.sum(1).max()) / temperature**2 + penalty)
    i, j = np.nonzero(wins_NN)
    weight_E, n = wins_NN[i, j], len(ratings_N)
    velocity_N = np.zeros(n)
    for _ in range(_MAX_STEPS):
        p_E = sigmoid((ratings_N[j] - ratings_N[i]) / temperature)
        pull_E = weight_E * p_E * (1.0 - p_E) / temperature
        gradient_N = np.bincount(j, pull_E, n) - np.bincount(i, pull_E, n) + penalty * ratings_N
        if np.abs(gradient_N).max() * step < _TOLERANCE * (1.0 - _MOMENTUM) and np.abs(velocity_N).max() < _TOLERANCE:
            return ratings_N - ratings_N.mean()
        velocity_N = _MOMENTUM * velocity_N - step * gradient_N
        ratings_N = (ratings_N + velocity_N).round(9)
    raise ArithmeticError(f"soft_condorcet: no minimum within {_MAX_STEPS} steps")
