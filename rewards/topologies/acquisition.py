"""Which matches teach most about a batch's rewards: greedy, jointly within a round, scale uncertainty included (ours).

Under the posterior mixture over scales k, a match e between a and b has the verdict y_e with

    p_e       = sum_k r_k p_ke                                                         its mean
    U_ie      = sum_k r_k [ m_ki (p_ke - p_e) + s_ke cov_k(reward_i, theta_a - theta_b) ]   covariance with reward i
    C_ef      = sum_k r_k [ (p_ke - p_e)(p_kf - p_f) + s_ke s_kf cov_k(theta_a - theta_b, theta_c - theta_d) ]
    V_e       = C_ee + (p_e (1 - p_e) - C_ee) / n                                      variance of the mean of n calls

with m_ki the reward's mean and s_ke the slope of p_ke in the strength difference. The first terms are what the verdict
says of the group's scale, the second what it says of the strengths. The best linear prediction of the rewards from y_e
lowers their summed variance by sum_i U_ie^2 / V_e. Picks of one round are conditioned on each other by rows of a
Cholesky factor, so that they do not ask the same thing twice.

Shapes: G groups of one size, K scales, N candidates, P pairs, L picks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators.laplace import ScaleFits, sigmoid
from rewards.aggregators.votes import FloatArray, IntArray

_LEAST_VARIANCE = 1e-3
"""A verdict is never taken for certain beforehand."""


@dataclass(frozen=True, slots=True, eq=False)
class Picks:
    """Pairs of each group in the order of their worth, and the drop in summed reward variance that each is good for.

    Gains never rise along a row, so the best ones of a batch are heads of rows.
    """

    pairs_GL: IntArray
    gains_GL: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Joint:
    """Moments of rewards and verdicts before any pick of this round."""

    reward_cov_GNP: FloatArray
    variance_GP: FloatArray
    lean_GKP: FloatArray
    slope_GKP: FloatArray


def pick_matches(
    fits: ScaleFits,
    responsibilities_GK: FloatArray,
    first_P: IntArray,
    second_P: IntArray,
    blocked_GP: NDArray[np.bool_],
    *,
    num_picks: int,
    calls_per_match: int,
) -> Picks:
    """The `num_picks` best pairs of every group, each given those before it.

    Args:
        first_P, second_P: the pairs' candidates.
        blocked_GP: pairs that cannot be picked; a row that runs out of pairs has gains of 0.
    """
    joint = _moments(fits, responsibilities_GK, first_P, second_P, calls_per_match)
    covariance_GKNN = fits.covariance_GKNN
    groups_G = np.arange(len(blocked_GP))
    cov_GNP, variance_GP, blocked_GP = joint.reward_cov_GNP.copy(), joint.variance_GP.copy(), blocked_GP.copy()
    factor_GLP = np.zeros((len(blocked_GP), num_picks, len(first_P)))
    pairs_GL = np.zeros((len(blocked_GP), num_picks), dtype=np.int64)
    gains_GL = np.zeros((len(blocked_GP), num_picks))
    for step in range(num_picks):
        worth_GP = np.where(blocked_GP, 0.0, np.einsum("gnp,gnp->gp", cov_GNP, cov_GNP) / variance_GP)
        best_G = worth_GP.argmax(1)
        pairs_GL[:, step], gains_GL[:, step] = best_G, worth_GP[groups_G, best_G]
        blocked_GP[groups_G, best_G] = True
        spread_GKN = (
            covariance_GKNN[groups_G, :, :, first_P[best_G]] - covariance_GKNN[groups_G, :, :, second_P[best_G]]
        )
        lean_GK = responsibilities_GK * joint.lean_GKP[groups_G, :, best_G]
        slope_GK = responsibilities_GK * joint.slope_GKP[groups_G, :, best_G]
        column_GP = np.einsum("gk,gkp->gp", lean_GK, joint.lean_GKP) + np.einsum(
            "gk,gkp->gp", slope_GK, joint.slope_GKP * (spread_GKN[..., first_P] - spread_GKN[..., second_P])
        )
        before_GL = factor_GLP[groups_G, :, best_G]
        column_GP -= np.einsum("gl,glp->gp", before_GL, factor_GLP)
        sd_G = np.sqrt(variance_GP[groups_G, best_G])
        row_GP = column_GP / sd_G[:, None]
        row_GP[groups_G, best_G] = sd_G
        factor_GLP[:, step] = row_GP
        cov_GNP -= (cov_GNP[groups_G, :, best_G] / sd_G[:, None])[..., None] * row_GP[:, None]
        variance_GP = np.maximum(variance_GP - row_GP**2, _LEAST_VARIANCE)
    return Picks(pairs_GL, np.minimum.accumulate(gains_GL, axis=1))


def _moments(
    fits: ScaleFits, responsibilities_GK: FloatArray, first_P: IntArray, second_P: IntArray, calls_per_match: int
) -> _Joint:
    covariance_GKNN = fits.covariance_GKNN
    num_candidates = covariance_GKNN.shape[-1]
    spread_GKN = np.diagonal(covariance_GKNN, axis1=-2, axis2=-1)
    variances_GKNN = spread_GKN[..., :, None] + spread_GKN[..., None, :] - 2.0 * covariance_GKNN
    damping_GKNN = 1.0 / np.sqrt(1.0 + np.pi / 8.0 * variances_GKNN)
    p_GKNN = sigmoid((fits.strengths_GKN[..., :, None] - fits.strengths_GKN[..., None, :]) * damping_GKNN)
    slopes_GKNN = damping_GKNN * p_GKNN * (1.0 - p_GKNN)
    diagonal = np.arange(num_candidates)
    response_GKNN = -slopes_GKNN / (num_candidates - 1)
    response_GKNN[..., diagonal, diagonal] = 0.0
    response_GKNN[..., diagonal, diagonal] = -response_GKNN.sum(-1)
    mean_GKN = (p_GKNN.sum(-1) - 0.5) / (num_candidates - 1)
    reward_cov_GKNN = response_GKNN @ covariance_GKNN

    p_GKP, slope_GKP = p_GKNN[..., first_P, second_P], slopes_GKNN[..., first_P, second_P]
    p_GP = np.einsum("gk,gkp->gp", responsibilities_GK, p_GKP)
    lean_GKP = p_GKP - p_GP[:, None]
    cov_GNP = np.einsum("gkn,gkp->gnp", responsibilities_GK[..., None] * mean_GKN, lean_GKP)
    for k in range(covariance_GKNN.shape[1]):  # one scale at a time: [G, K, N, P] would be the largest array by far
        moved_GNP = reward_cov_GKNN[:, k][..., first_P] - reward_cov_GKNN[:, k][..., second_P]
        cov_GNP += (responsibilities_GK[:, k, None] * slope_GKP[:, k])[:, None] * moved_GNP
    signal_GP = np.einsum(
        "gk,gkp->gp", responsibilities_GK, lean_GKP**2 + slope_GKP**2 * variances_GKNN[..., first_P, second_P]
    )
    noise_GP = np.maximum(p_GP * (1.0 - p_GP) - signal_GP, _LEAST_VARIANCE)
    return _Joint(cov_GNP, signal_GP + noise_GP / calls_per_match, lean_GKP, slope_GKP)
