"""Davidson: Bradley-Terry strengths with ties as an outcome of their own (Davidson 1970, section 2).

    P(i beats j) : P(tie) : P(j beats i)  =  exp(theta_i) : exp(eta + (theta_i + theta_j) / 2) : exp(theta_j)

Shapes: N candidates, M = N + 1 parameters (the strengths and eta).
"""

from __future__ import annotations

import numpy as np

from rewards.aggregator_config import Davidson
from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading, mean_over_scored, signal_share
from rewards.aggregators.newton import maximise
from rewards.aggregators.votes import FloatArray

_TIE_PRIOR_SD = 3.0
"""Standard deviation of eta around even odds: wide, and finite where every verdict or none is a tie."""


class DavidsonAggregator(GroupAggregator):
    """MAP under theta ~ Normal(0, prior_sd^2), eta ~ Normal(0, 3^2), one eta per group; strictly concave.

    A tie is a verdict of exactly one half; another probability counts as a share of a win and of a loss, a score by its
    sign. reward_i: mean over the scored others of P(win) + P(tie) / 2. stderrs and reliability: Laplace, the rewards'
    variance by their linear response to the parameters.
    """

    def __init__(self, config: Davidson, *, min_verdicts: int = 1) -> None:
        super().__init__(min_verdicts=min_verdicts, judge_weights=config.judge_weights)
        self._prior_sd = config.prior_sd

    def _read(self, votes: GroupVotes) -> Reading:
        n = votes.num_candidates
        wins_NN, ties_NN = votes.wins_NN - votes.ties_NN / 2.0, votes.ties_NN
        precision_M = np.full(n + 1, self._prior_sd**-2.0)
        precision_M[n] = _TIE_PRIOR_SD**-2.0
        games_NN = np.triu(wins_NN + wins_NN.T + ties_NN, 1)
        won_N = wins_NN.sum(1) + ties_NN.sum(1) / 2.0

        def value(x_M: FloatArray) -> float:
            logits_NN = _log_total(x_M)
            tied = ties_NN.sum() / 2.0 * x_M[n]
            return float(won_N @ x_M[:n] + tied - (games_NN * logits_NN).sum() - precision_M @ x_M**2 / 2.0)

        def slopes(x_M: FloatArray) -> tuple[FloatArray, FloatArray]:
            win_NN, tie_NN = outcome_shares(x_M)
            half_NN = win_NN + tie_NN / 2.0
            both_NN = games_NN + games_NN.T
            gradient_M = np.append(won_N - (both_NN * half_NN).sum(1), ties_NN.sum() / 2.0 - (games_NN * tie_NN).sum())
            # Covariances of one game's (score of i, score of j, tie), with scores 1, 1/2, 0.
            spread_NN = both_NN * (win_NN + tie_NN / 4.0 - half_NN**2)
            hessian_MM = np.zeros((n + 1, n + 1))
            hessian_MM[:n, :n] = -spread_NN
            hessian_MM[range(n), range(n)] = spread_NN.sum(1)
            hessian_MM[:n, n] = hessian_MM[n, :n] = (both_NN * tie_NN * (0.5 - half_NN)).sum(1)
            hessian_MM[n, n] = (games_NN * tie_NN * (1.0 - tie_NN)).sum()
            return gradient_M - precision_M * x_M, hessian_MM + np.diag(precision_M)

        x_M, information_MM = maximise(value, slopes, np.zeros(n + 1))
        covariance_MM = np.linalg.inv(information_MM)
        win_NN, tie_NN = outcome_shares(x_M)
        half_NN = win_NN + tie_NN / 2.0
        rewards_N = mean_over_scored(half_NN, votes.scored_N)
        share_NN = votes.scored_N[None, :] * ~np.eye(n, dtype=bool) / max(1, int(votes.scored_N.sum()) - 1)
        slope_NN = share_NN * (win_NN + tie_NN / 4.0 - half_NN**2)
        response_NM = np.hstack([-slope_NN, (share_NN * tie_NN * (0.5 - half_NN)).sum(1, keepdims=True)])
        response_NM[range(n), range(n)] = slope_NN.sum(1)
        variance_N = ((response_NM @ covariance_MM) * response_NM).sum(1)
        return Reading(
            rewards_N=rewards_N,
            strengths_N=x_M[:n],
            stderrs_N=np.sqrt(np.diagonal(covariance_MM)[:n]),
            reliability=signal_share(rewards_N, variance_N, votes.scored_N),
        )


def _log_total(x_M: FloatArray) -> FloatArray:
    """log(exp(theta_i) + exp(theta_j) + exp(eta + (theta_i + theta_j) / 2)) of every pair."""
    theta_N, eta = x_M[:-1], x_M[-1]
    mean_NN = (theta_N[:, None] + theta_N[None, :]) / 2.0
    return np.logaddexp(np.logaddexp(theta_N[:, None], theta_N[None, :]), eta + mean_NN)


def outcome_shares(x_M: FloatArray) -> tuple[FloatArray, FloatArray]:
    """P(i beats j) and P(i and j tie) of every pair."""
    theta_N, eta = x_M[:-1], x_M[-1]
    total_NN = _log_total(x_M)
    mean_NN = (theta_N[:, None] + theta_N[None, :]) / 2.0
    return np.exp(theta_N[:, None] - total_NN), np.exp(eta + mean_NN - total_NN)
