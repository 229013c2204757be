"""Shrinking the strengths of `score` verdicts by a known error of the judge (ours).

A judge can repeat itself perfectly and still be wrong about a rollout: all its matches then carry the same error, and
no match log shows it. With the standard deviation t of that error from outside (`diagnostics.score_error`), and the
verdicts' own noise v from the fit, a group's strengths are

    x_i = theta_i + error_i,   theta_i ~ Normal(0, s_g^2),   error_i ~ Normal(0, t^2 + v)
    E[theta_i | s] = s^2 / (s^2 + t^2 + v) (x_i - mean)

s_g lies on a grid of multiples of t whose weights the batch teaches, as for votes: a group that differs no more than
the judge errs goes to zero. t is in the judge's own units, so multiplying scores and t by one constant changes nothing.

Shapes: G groups, K multiples, N scored candidates of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.laplace import sigmoid
from rewards.aggregators.mixture import fit_mixture
from rewards.aggregators.votes import FloatArray

MULTIPLES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0)
"""Spreads of a group in units of t; beyond the last, shrinkage is under 1 %."""
_CLEAR = 1.5
"""Differences of so many batch scales count as clear in a win share."""
_LOGISTIC = 1.702
"""sigmoid(1.702 x) is within 0.01 of the normal distribution function."""


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """Posterior mean and variance of one group's centred strengths, in the judge's units; variance: one for all."""

    mean_N: FloatArray
    variance: float


def shrink(
    centred: Sequence[FloatArray], noise: Sequence[float], error: float, counts_K: FloatArray
) -> tuple[list[Shrunk], FloatArray]:
    """Posterior strengths of a batch, and how many groups have each multiple.

    Args:
        centred: strengths of every group around their mean; may be empty.
        noise: variance that the verdicts' own noise gives a strength, by group.
        error: t > 0. counts_K: Dirichlet counts of `MULTIPLES`.
    """
    spread_K = (error * np.array(MULTIPLES)) ** 2
    freedom_G1 = np.array([[max(0, len(one) - 1)] for one in centred], dtype=np.float64)
    squares_G1 = np.array([[float(one @ one)] for one in centred])
    wrong_G1 = np.array([[error**2 + one] for one in noise])
    total_GK = spread_K + wrong_G1
    evidence_GK = -freedom_G1 / 2.0 * np.log(total_GK) - squares_G1 / (2.0 * total_GK)
    _, share_GK = fit_mixture(evidence_GK, counts_K)
    factor_GK = spread_K / total_GK
    factor_G = (share_GK * factor_GK).sum(1)
    left_G = (share_GK * factor_GK * wrong_G1).sum(1)
    doubt_G = (share_GK * factor_GK**2).sum(1) - factor_G**2
    shrunk = [
        Shrunk(
            factor * one,
            float(left * (1.0 - 1.0 / len(one)) + doubt * (one @ one) / len(one)) if len(one) else 0.0,
        )
        for one, factor, left, doubt in zip(centred, factor_G, left_G, doubt_G, strict=True)
    ]
    heard_G1 = freedom_G1 > 0.0
    return shrunk, (share_GK * heard_G1).sum(0)


def win_shares(strengths_N: FloatArray, variance: float, scale: float) -> FloatArray:
    """Mean over the others of the share of wins that a difference is worth: one half when level, near 1 when clear.

    Phi(d / sqrt((1.5 scale)^2 + 2 variance)), d = theta_i - theta_j, scale: of the batch. It grows ever less beyond
    what is clear, as a win probability does; multiplying all by a constant changes nothing.
    """
    unit = np.sqrt((_CLEAR * scale) ** 2 + 2.0 * variance)
    shares_NN = sigmoid(_LOGISTIC * (strengths_N[:, None] - strengths_N[None, :]) / unit)
    return (shares_NN.sum(1) - 0.5) / max(1, len(strengths_N) - 1)
