"""Soft Condorcet optimisation: ratings that agree with most verdicts (Lanctot et al., arXiv 2411.00119).

    loss = sum over i, j of  w_ij sigmoid((r_j - r_i) / temperature)         w_ij: weighted wins of i over j

A smooth count of contradicted verdicts: an upset costs 1 at most, where Bradley-Terry's log-loss has no bound.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregator_config import SoftCondorcet
from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading, mean_over_scored
from rewards.aggregators.laplace import sigmoid
from rewards.aggregators.newton import maximise
from rewards.aggregators.votes import FloatArray


class SoftCondorcetAggregator(GroupAggregator):
    """A local minimum of loss + |r|^2 / (2 prior_sd^2) near the centred win rates; the penalty keeps ratings finite.

    The loss is not convex: another start may end elsewhere, so the start is fixed. Newton's method, with the Hessian
    lifted to positive definite where it is not.
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
    penalty = prior_sd**-2.0
    n = len(rates_N)

    def upsets(ratings_N: FloatArray) -> FloatArray:
        return sigmoid((ratings_N[None, :] - ratings_N[:, None]) / temperature)

    def gain(ratings_N: FloatArray) -> float:
        return -float((wins_NN * upsets(ratings_N)).sum() + penalty * (ratings_N @ ratings_N) / 2.0)

    def slopes(ratings_N: FloatArray) -> tuple[FloatArray, FloatArray]:
        p_NN = upsets(ratings_N)
        slope_NN = wins_NN * p_NN * (1.0 - p_NN) / temperature
        gradient_N = slope_NN.sum(1) - slope_NN.sum(0) - penalty * ratings_N
        curve_NN = slope_NN * (1.0 - 2.0 * p_NN) / temperature
        curve_NN = curve_NN + curve_NN.T
        hessian_NN = np.diag(curve_NN.sum(1) + penalty) - curve_NN
        curves_N = np.linalg.eigvalsh(hessian_NN)
        least = max(penalty / 2.0, 1e-12 * float(curves_N[-1]))  # less is lost in rounding
        lift = max(0.0, least - float(curves_N[0]))
        # Rounded, so that where two directions are level the order of the additions does not choose one.
        return gradient_N.round(11), hessian_NN + lift * np.eye(n)

    ratings_N, _ = maximise(gain, slopes, (2.0 * rates_N - 1.0) * temperature)
    return ratings_N - ratings_N.mean()
