"""From the posterior over strengths to the posterior over rewards, under every scale (ours).

    reward_i = mean over scored j != i of P(i beats j)

Shapes: G groups of the same size, K scales, N candidates, U quadrature nodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators.laplace import ScaleFits, sigmoid, softplus
from rewards.aggregators.votes import FloatArray

_NUM_NODES = 401
_TAIL_SDS = 8.0


def win_probabilities(fits: ScaleFits, scored_GN: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and variance of every candidate's reward.

    Mean: sigmoid(d / sqrt(1 + (pi / 8) v)) with d and v the mean and variance of theta_i - theta_j (the probit-style
    approximation of MacKay 1992). Variance: the rewards' linear response to the strengths, through their covariance.

    Returns:
        mean_GKN and variance_GKN; entries of unscored candidates mean nothing.
    """
    covariance_GKNN = fits.covariance_GKNN
    spread_GKN = np.diagonal(covariance_GKNN, axis1=-2, axis2=-1)
    variances_GKNN = spread_GKN[..., :, None] + spread_GKN[..., None, :] - 2.0 * covariance_GKNN
    damping_GKNN = 1.0 / np.sqrt(1.0 + np.pi / 8.0 * variances_GKNN)
    differences_GKNN = fits.strengths_GKN[..., :, None] - fits.strengths_GKN[..., None, :]
    p_GKNN = sigmoid(differences_GKNN * damping_GKNN)
    num_opponents_G = np.maximum(scored_GN.sum(-1) - 1, 1)
    shares_GNN = scored_GN[:, None, :] * ~np.eye(scored_GN.shape[-1], dtype=bool) / num_opponents_G[:, None, None]
    shares_G1NN = shares_GNN[:, None]
    slopes_GKNN = shares_G1NN * damping_GKNN * p_GKNN * (1.0 - p_GKNN)
    response_GKNN = -slopes_GKNN
    diagonal = np.arange(scored_GN.shape[-1])
    response_GKNN[..., diagonal, diagonal] = slopes_GKNN.sum(-1)
    variance_GKN = ((response_GKNN @ covariance_GKNN) * response_GKNN).sum(-1)
    return (shares_G1NN * p_GKNN).sum(-1), variance_GKN


def pair_posterior(
    fits: ScaleFits, wins_GNN: FloatArray, votes_GNN: FloatArray, scales_K: FloatArray, seat_bias: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Groups of two by quadrature over d = theta_0 - theta_1 ~ Normal(0, 2 s^2), where Laplace understates.

    The nodes lie around the mode, dense within a posterior standard deviation and reaching past the prior's tails.

    Returns:
        log_evidence_GK, and mean_GKN and variance_GKN of the two rewards.
    """
    mode_GK1 = (fits.strengths_GKN[..., 0] - fits.strengths_GKN[..., 1])[..., None]
    covariance_GKNN = fits.covariance_GKNN
    sd_GK1 = np.sqrt(covariance_GKNN[..., 0, 0] + covariance_GKNN[..., 1, 1] - 2 * covariance_GKNN[..., 0, 1])[
        ..., None
    ]
    prior_variance_K1 = 2.0 * scales_K[:, None] ** 2
    reach_GK1 = np.arcsinh((_TAIL_SDS * np.sqrt(prior_variance_K1) + np.abs(mode_GK1)) / sd_GK1)
    u_GKU = np.linspace(-1.0, 1.0, _NUM_NODES) * reach_GK1
    d_GKU = mode_GK1 + sd_GK1 * np.sinh(u_GKU)
    log_cell_GKU = np.log(sd_GK1 * np.cosh(u_GKU) * reach_GK1 * (2.0 / (_NUM_NODES - 1)))
    log_mass_GKU = log_cell_GKU - d_GKU**2 / (2.0 * prior_variance_K1) - 0.5 * np.log(2.0 * np.pi * prior_variance_K1)
    for first, sign in ((0, 1.0), (1, -1.0)):
        logits_GKU = sign * d_GKU + seat_bias
        wins_G11, votes_G11 = wins_GNN[:, first, 1 - first, None, None], votes_GNN[:, first, 1 - first, None, None]
        log_mass_GKU = log_mass_GKU + wins_G11 * logits_GKU - votes_G11 * softplus(logits_GKU)
    top_GK1 = log_mass_GKU.max(-1, keepdims=True)
    mass_GKU = np.exp(log_mass_GKU - top_GK1)
    total_GK = mass_GKU.sum(-1)
    p_GKU = sigmoid(d_GKU)
    mean_GK = (mass_GKU * p_GKU).sum(-1) / total_GK
    variance_GK = (mass_GKU * (p_GKU - mean_GK[..., None]) ** 2).sum(-1) / total_GK
    mean_GKN = np.stack((mean_GK, 1.0 - mean_GK), axis=-1)
    return np.log(total_GK) + top_GK1[..., 0], mean_GKN, np.stack((variance_GK, variance_GK), axis=-1)
