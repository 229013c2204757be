"""Bradley-Terry strengths under Normal(0, s^2), for a grid of scales s at once: MAP, covariance, evidence (ours).

    P(f beats s, shown first) = sigmoid(theta_f - theta_s + b)                b: first-seat bias, one per batch
    log-likelihood = sum over verdicts of  w [ y log p + (1 - y) log(1 - p) ]
    log Z(s) = loglik(theta_hat) - |theta_hat|^2 / (2 s^2) - 1/2 log det(I + s^2 A),   A = Hessian of -loglik

With fractional y the likelihood is a quasi-likelihood: its mean is right, its variance is set by the weight w.

Shapes: G groups of the same size, K scales, N candidates; `_NN` arrays are indexed [shown first, shown second].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rewards.aggregators.votes import FloatArray

_MAX_NEWTON_STEPS = 100
_MAX_HALVINGS = 30
_TOLERANCE = 1e-9
_CHUNK_FLOATS = 65_536
"""Working-set bound of one chunk of groups, so that its arrays stay in a core's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class ScaleFits:
    """Posterior of every group under every scale.

    seat_gradient_GK and seat_curvature_GK: slope and (positive) curvature of the fit in the first-seat bias, with the
    strengths re-fitted along.
    """

    strengths_GKN: FloatArray
    covariance_GKNN: FloatArray
    log_evidence_GK: FloatArray
    seat_gradient_GK: FloatArray
    seat_curvature_GK: FloatArray


def fit_scales(
    wins_GNN: FloatArray,
    votes_GNN: FloatArray,
    scales_K: FloatArray,
    seat_bias: float = 0.0,
    start_GKN: FloatArray | None = None,
) -> ScaleFits:
    """Fits all groups under all scales by Newton's method.

    Args:
        wins_GNN: weighted wins of the candidate shown first.
        votes_GNN: weights of all verdicts with these seats.
        scales_K: prior standard deviations, > 0.
        seat_bias: logit by which being shown first helps.
        start_GKN: strengths to start from, such as those under a bias nearby; zeros by default.
    """
    num_groups, num_candidates = wins_GNN.shape[:2]
    chunk = max(1, _CHUNK_FLOATS // (len(scales_K) * max(1, num_candidates) ** 2))
    parts = [
        _fit_chunk(
            wins_GNN[start : start + chunk],
            votes_GNN[start : start + chunk],
            scales_K,
            seat_bias,
            None if start_GKN is None else start_GKN[start : start + chunk],
        )
        for start in range(0, max(1, num_groups), chunk)
    ]
    return ScaleFits(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _fit_chunk(
    wins_GNN: FloatArray,
    votes_GNN: FloatArray,
    scales_K: FloatArray,
    seat_bias: float,
    start_GKN: FloatArray | None,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    wins_G1NN, votes_G1NN = wins_GNN[:, None], votes_GNN[:, None]
    variances_K1 = scales_K[:, None] ** 2
    shape_GKN = (len(wins_GNN), len(scales_K), wins_GNN.shape[-1])

    def objective(strengths_GKN: FloatArray) -> FloatArray:
        logits_GKNN = _differences(strengths_GKN) + seat_bias
        loglik_GK = (wins_G1NN * logits_GKNN - votes_G1NN * softplus(logits_GKNN)).sum((-2, -1))
        return loglik_GK - (strengths_GKN**2 / variances_K1).sum(-1) / 2

    strengths_GKN = np.zeros(shape_GKN) if start_GKN is None else start_GKN
    value_GK = objective(strengths_GKN)
    for _ in range(_MAX_NEWTON_STEPS):
        residual_GKNN, fisher_GKNN = _residual_and_fisher(strengths_GKN, wins_G1NN, votes_G1NN, seat_bias)
        gradient_GKN = residual_GKNN.sum(-1) - residual_GKNN.sum(-2) - strengths_GKN / variances_K1
        step_GKN = np.linalg.solve(_precision(fisher_GKNN, variances_K1), gradient_GKN[..., None])[..., 0]
        proposed_GKN = strengths_GKN + step_GKN
        proposed_value_GK = objective(proposed_GKN)
        # The objective is concave, so a shorter step always improves it; full steps nearly always do.
        for _ in range(_MAX_HALVINGS):
            worse_GK = proposed_value_GK < value_GK - 1e-12 * (1.0 + np.abs(value_GK))
            if not worse_GK.any():
                break
            step_GKN = np.where(worse_GK[..., None], step_GKN / 2, step_GKN)
            proposed_GKN = strengths_GKN + step_GKN
            proposed_value_GK = objective(proposed_GKN)
        strengths_GKN, value_GK = proposed_GKN, proposed_value_GK
        if np.abs(step_GKN).max(initial=0.0) < _TOLERANCE:
            break

    residual_GKNN, fisher_GKNN = _residual_and_fisher(strengths_GKN, wins_G1NN, votes_G1NN, seat_bias)
    precision_GKNN = _precision(fisher_GKNN, variances_K1)
    covariance_GKNN: FloatArray = np.linalg.inv(precision_GKNN).astype(np.float64)
    # det(I + s^2 A) = det(A + I / s^2) s^(2N), stable for small s in this form.
    log_det_GK: FloatArray = np.linalg.slogdet(precision_GKNN * variances_K1[..., None])[1]
    cross_GKN = fisher_GKNN.sum(-1) - fisher_GKNN.sum(-2)
    explained_GK = np.einsum("gki,gkij,gkj->gk", cross_GKN, covariance_GKNN, cross_GKN)
    return (
        strengths_GKN,
        covariance_GKNN,
        value_GK - log_det_GK / 2,
        residual_GKNN.sum((-2, -1)),
        fisher_GKNN.sum((-2, -1)) - explained_GK,
    )


def _residual_and_fisher(
    strengths_GKN: FloatArray, wins_G1NN: FloatArray, votes_G1NN: FloatArray, seat_bias: float
) -> tuple[FloatArray, FloatArray]:
    p_GKNN = sigmoid(_differences(strengths_GKN) + seat_bias)
    expected_GKNN = votes_G1NN * p_GKNN
    return wins_G1NN - expected_GKNN, expected_GKNN * (1.0 - p_GKNN)


def _precision(fisher_GKNN: FloatArray, variances_K1: FloatArray) -> FloatArray:
    """A + I / s^2: the graph Laplacian of the verdicts' information, and the prior."""
    precision_GKNN = -(fisher_GKNN + fisher_GKNN.swapaxes(-1, -2))
    diagonal = np.arange(fisher_GKNN.shape[-1])
    precision_GKNN[..., diagonal, diagonal] = 0.0
    precision_GKNN[..., diagonal, diagonal] = 1.0 / variances_K1 - precision_GKNN.sum(-1)
    return precision_GKNN


def _differences(strengths_GKN: FloatArray) -> FloatArray:
    return strengths_GKN[..., :, None] - strengths_GKN[..., None, :]


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def softplus(x: FloatArray) -> FloatArray:
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, 0.0) + np.log(1.0 + np.exp(-np.abs(x)))
