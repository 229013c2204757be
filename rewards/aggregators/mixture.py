"""EM over the weights of a mixture of scales, with Dirichlet counts (ours).

Shapes: G groups, K scales.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregators.votes import FloatArray

_MAX_STEPS = 500
_TOLERANCE = 1e-8


def fit_mixture(log_evidence_GK: FloatArray, counts_K: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights of the scales in a batch, and every group's responsibilities.

    Iterates r_gk ~ pi_k Z_gk, pi_k ~ counts_k + sum_g r_gk until the weights rest.

    Args:
        counts_K: Dirichlet counts, > 0: groups of each scale that were seen before, so that no scale dies.

    Returns:
        weights_K (sum 1) and responsibilities_GK (rows sum to 1).
    """
    weights_K = counts_K / counts_K.sum()
    likelihood_GK = np.exp(log_evidence_GK - log_evidence_GK.max(axis=-1, keepdims=True))
    responsibilities_GK = _normalised(likelihood_GK * weights_K)
    for _ in range(_MAX_STEPS):
        updated_K = counts_K + responsibilities_GK.sum(0)
        updated_K = updated_K / updated_K.sum()
        moved = float(np.abs(updated_K - weights_K).max())
        weights_K = updated_K
        responsibilities_GK = _normalised(likelihood_GK * weights_K)
        if moved < _TOLERANCE:
            break
    return weights_K, responsibilities_GK


def _normalised(mass_GK: FloatArray) -> FloatArray:
    return mass_GK / mass_GK.sum(-1, keepdims=True)
