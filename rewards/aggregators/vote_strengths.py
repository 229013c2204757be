"""Posterior rewards of a batch of groups from hard or probability votes: scales, seats and strengths together (ours).

Shapes: G groups of the same size, K scales, N candidates of a group that have at least one verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators.laplace import ScaleFits, fit_scales
from rewards.aggregators.mixture import fit_mixture
from rewards.aggregators.posterior import pair_posterior, win_probabilities
from rewards.aggregators.prior import BatchPrior
from rewards.aggregators.votes import FloatArray, Votes

_MAX_SEAT_STEPS = 100
_SEAT_TOLERANCE = 1e-3
"""Logits; far below what any batch can tell."""


@dataclass(frozen=True, slots=True, eq=False)
class VoteReading:
    """Posterior means and variances of one group, scales averaged out."""

    rewards_N: FloatArray
    reward_variance_N: FloatArray
    strengths_N: FloatArray
    strength_variance_N: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class SizeBatch:
    """Groups with the same number of candidates; `indices` are their places in the batch."""

    indices: list[int]
    wins_GNN: FloatArray
    votes_GNN: FloatArray
    scored_GN: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _SizeFit:
    fits: ScaleFits
    log_evidence_GK: FloatArray
    mean_GKN: FloatArray
    variance_GKN: FloatArray


def fit_votes(
    votes: Sequence[Votes],
    scored: Sequence[NDArray[np.bool_]],
    learned: BatchPrior,
    *,
    decay: float,
    with_seat_bias: bool,
) -> tuple[list[VoteReading | None], BatchPrior]:
    """Fits all groups of a batch under one mixture of scales and, if asked, one first-seat bias.

    Args:
        votes: weighted votes of each group.
        scored: per group, which of its candidates are scored (and so count as opponents in the rewards).
        learned: evidence of earlier batches.
        decay: what the updated evidence is multiplied by.

    Returns:
        a reading per group (None for a group without any vote), and the updated evidence.
    """
    readings: list[VoteReading | None] = [None] * len(votes)
    batches = by_size(votes, scored)
    if not batches:
        return readings, learned
    scales_K = np.array(learned.scales)
    seat_bias = learned.seat_bias
    if with_seat_bias:
        seat_bias, information = _fit_seat_bias(batches, scales_K, learned)
        precision = learned.seat_precision + information
        learned = replace(
            learned,
            seat_information=decay * (learned.seat_information + information),
            seat_moment=decay * precision * seat_bias,
        )
    else:
        seat_bias = 0.0
    fits = [_fit(batch, scales_K, seat_bias) for batch in batches]
    _, responsibilities_GK = fit_mixture(np.concatenate([fit.log_evidence_GK for fit in fits]), learned.scale_counts)
    start = 0
    for batch, fit in zip(batches, fits, strict=True):
        end = start + len(batch.indices)
        for index, reading in zip(batch.indices, _average_scales(fit, responsibilities_GK[start:end]), strict=True):
            readings[index] = reading
        start = end
    seen_K = decay * (np.array(learned.scale_groups) + responsibilities_GK.sum(0))
    return readings, replace(learned, scale_groups=tuple(seen_K.tolist()))


def by_size(votes: Sequence[Votes], scored: Sequence[NDArray[np.bool_]]) -> list[SizeBatch]:
    """Groups with equally many candidates as one batch; groups without any vote are in none."""
    indices: dict[int, list[int]] = defaultdict(list)
    for index, vote in enumerate(votes):
        if len(vote.candidates_N):
            indices[len(vote.candidates_N)].append(index)
    return [
        SizeBatch(
            members,
            np.stack([votes[i].values_NN for i in members]),
            np.stack([votes[i].counts_NN for i in members]),
            np.stack([scored[i] for i in members]),
        )
        for _, members in sorted(indices.items())
    ]


def _fit(batch: SizeBatch, scales_K: FloatArray, seat_bias: float) -> _SizeFit:
    fits = fit_scales(batch.wins_GNN, batch.votes_GNN, scales_K, seat_bias)
    if batch.wins_GNN.shape[-1] == 2:
        return _SizeFit(fits, *pair_posterior(fits, batch.wins_GNN, batch.votes_GNN, scales_K, seat_bias))
    return _SizeFit(fits, fits.log_evidence_GK, *win_probabilities(fits, batch.scored_GN))


def _fit_seat_bias(batches: Sequence[SizeBatch], scales_K: FloatArray, learned: BatchPrior) -> tuple[float, float]:
    """Mode of the first-seat bias, with scales and strengths fitted along; and the batch's information about it.

    Newton's method between two biases of opposite slopes; where a step leaves them, or does not halve the one before,
    the middle is next. A slope of data is at most their weight, so the mode is at most weight / precision away.

    Raises:
        ArithmeticError: no convergence.
    """
    seat_bias, precision = learned.seat_bias, learned.seat_precision
    reach = 1.0 + sum(float(batch.votes_GNN.sum()) for batch in batches) / precision
    low, high, step = seat_bias - reach, seat_bias + reach, np.inf
    starts: list[FloatArray | None] = [None] * len(batches)
    for _ in range(_MAX_SEAT_STEPS):
        fits = [
            fit_scales(batch.wins_GNN, batch.votes_GNN, scales_K, seat_bias, start)
            for batch, start in zip(batches, starts, strict=True)
        ]
        starts = [fit.strengths_GKN for fit in fits]
        _, responsibilities_GK = fit_mixture(
            np.concatenate([fit.log_evidence_GK for fit in fits]), learned.scale_counts
        )
        slope = float((responsibilities_GK * np.concatenate([fit.seat_gradient_GK for fit in fits])).sum())
        information = float((responsibilities_GK * np.concatenate([fit.seat_curvature_GK for fit in fits])).sum())
        slope -= precision * (seat_bias - learned.seat_bias)
        low, high = (seat_bias, high) if slope > 0.0 else (low, seat_bias)
        last, step = step, slope / (precision + information)
        slow = abs(step) > max(_SEAT_TOLERANCE, abs(last) / 2.0)
        if slow or not low <= seat_bias + step <= high:
            step = (low + high) / 2.0 - seat_bias
        if abs(step) < _SEAT_TOLERANCE:
            return seat_bias, information
        seat_bias += step
    raise ArithmeticError(f"no first-seat bias within {_MAX_SEAT_STEPS} steps")


def _average_scales(fit: _SizeFit, responsibilities_GK: FloatArray) -> list[VoteReading]:
    share_GK1 = responsibilities_GK[..., None]
    strengths_GKN = fit.fits.strengths_GKN
    strength_variance_GKN = np.diagonal(fit.fits.covariance_GKNN, axis1=-2, axis2=-1)
    rewards_GN = (share_GK1 * fit.mean_GKN).sum(1)
    strengths_GN = (share_GK1 * strengths_GKN).sum(1)
    reward_variance_GN = (share_GK1 * (fit.variance_GKN + (fit.mean_GKN - rewards_GN[:, None]) ** 2)).sum(1)
    spread_GN = (share_GK1 * (strength_variance_GKN + (strengths_GKN - strengths_GN[:, None]) ** 2)).sum(1)
    return [
        VoteReading(*arrays) for arrays in zip(rewards_GN, reward_variance_GN, strengths_GN, spread_GN, strict=True)
    ]
