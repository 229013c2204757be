"""Empirical Bayes on votes, slow and obvious: loops, a general optimiser, adaptive quadrature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.integrate import quad
from scipy.optimize import minimize

from rewards.aggregators.prior import SCALE_COUNT
from rewards.types import MatchLog

Vote = tuple[int, int, float, float]
"""(first, second, value, weight)."""


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def loglik(votes: Sequence[Vote], theta: Sequence[float], seat_bias: float) -> float:
    total = 0.0
    for first, second, value, weight in votes:
        logit = theta[first] - theta[second] + seat_bias
        total -= weight * (value * math.log1p(math.exp(-logit)) + (1.0 - value) * math.log1p(math.exp(logit)))
    return total


def fit_group(votes: Sequence[Vote], n: int, scale: float, seat_bias: float) -> tuple[float, list[float], list[float]]:
    """log evidence, mean rewards and reward variances of a group of n > 2 under one scale."""

    def loss(theta: np.ndarray) -> float:
        return -loglik(votes, theta.tolist(), seat_bias) + float(theta @ theta) / (2.0 * scale**2)

    theta = minimize(loss, np.zeros(n), method="BFGS", options={"gtol": 1e-9}).x
    hessian = np.zeros((n, n))
    for first, second, _, weight in votes:
        p = sigmoid(theta[first] - theta[second] + seat_bias)
        for i, j, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
            hessian[i, j] += sign * weight * p * (1.0 - p)
    log_evidence = -loss(theta) - 0.5 * math.log(np.linalg.det(np.eye(n) + scale**2 * hessian))
    covariance = np.linalg.inv(hessian + np.eye(n) / scale**2)
    means, variances = [], []
    for i in range(n):
        mean, response = 0.0, np.zeros(n)
        for j in range(n):
            if j != i:
                spread = covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j]
                damping = 1.0 / math.sqrt(1.0 + math.pi / 8.0 * spread)
                p = sigmoid((theta[i] - theta[j]) * damping)
                mean += p / (n - 1)
                response[i] += damping * p * (1.0 - p) / (n - 1)
                response[j] -= damping * p * (1.0 - p) / (n - 1)
        means.append(mean)
        variances.append(float(response @ covariance @ response))
    return log_evidence, means, variances


def fit_pair(votes: Sequence[Vote], scale: float, seat_bias: float) -> tuple[float, list[float], list[float]]:
    """The same for n = 2, by adaptive quadrature over the difference."""
    sd = math.sqrt(2.0) * scale

    def mass(d: float, power: int) -> float:
        density = math.exp(-0.5 * (d / sd) ** 2) / (sd * math.sqrt(2.0 * math.pi))
        return sigmoid(d) ** power * density * math.exp(loglik(votes, [d, 0.0], seat_bias))

    zeroth, first, second = (
        quad(mass, -9 * sd, 9 * sd, args=(power,), epsabs=1e-13, epsrel=1e-10, limit=500)[0] for power in (0, 1, 2)
    )
    mean = first / zeroth
    variance = second / zeroth - mean**2
    return math.log(zeroth), [mean, 1.0 - mean], [variance, variance]


def empirical_bayes(
    logs: Sequence[MatchLog], scales: Sequence[float], *, weight: float = 1.0, seat_bias: float = 0.0
) -> list[tuple[list[float], float]]:
    """Rewards and reliability per group, for logs in which every candidate has a verdict."""
    fits = []
    for log in logs:
        votes = [
            (call.first, call.second, call.verdict.value, weight)
            for match in log.matches
            for call in match.calls
            if call.verdict.value is not None
        ]
        if log.num_candidates == 2:
            fits.append([fit_pair(votes, scale, seat_bias) for scale in scales])
        else:
            fits.append([fit_group(votes, log.num_candidates, scale, seat_bias) for scale in scales])
    weights = [1.0 / len(scales)] * len(scales)
    for _ in range(3000):
        shares = [responsibilities(group, weights) for group in fits]
        counts = [SCALE_COUNT + sum(share[k] for share in shares) for k in range(len(scales))]
        weights = [count / sum(counts) for count in counts]
    readings = []
    for group in fits:
        share = responsibilities(group, weights)
        n = len(group[0][1])
        rewards = [sum(r * fit[1][i] for r, fit in zip(share, group, strict=True)) for i in range(n)]
        noise = [
            sum(r * (fit[2][i] + (fit[1][i] - rewards[i]) ** 2) for r, fit in zip(share, group, strict=True))
            for i in range(n)
        ]
        signal = sum((reward - sum(rewards) / n) ** 2 for reward in rewards) / n
        readings.append((rewards, signal / (signal + sum(noise) / n)))
    return readings


def responsibilities(group: Sequence[tuple[float, list[float], list[float]]], weights: Sequence[float]) -> list[float]:
    top = max(fit[0] for fit in group)
    mass = [weight * math.exp(fit[0] - top) for fit, weight in zip(group, weights, strict=True)]
    return [m / sum(mass) for m in mass]
