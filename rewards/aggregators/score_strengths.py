"""Strengths from `score` verdicts: least squares on antisymmetrised scores, one scale for the whole batch (ours).

    score(f, s), f shown first = theta_f - theta_s + b + noise           b: first-seat offset, one per batch
    reward_i = (theta_i - mean over the group's scored) / scale,         scale: running RMS over batches

With both orders the least-squares fit sees exactly the antisymmetrised score of a pair, and b drops out. Multiplying
all scores by a constant changes no reward. A score is never read as a probability.

Shapes: N candidates of a group that have at least one verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.votes import FloatArray, VerdictTable, collect_votes

_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class ScoreFit:
    """Least-squares strengths of one group, in the judge's units; every part of a disconnected graph centres at zero.

    spread_N: variance of a strength per unit of noise variance.
    """

    candidates_N: np.ndarray
    num_verdicts_N: np.ndarray
    strengths_N: FloatArray
    spread_N: FloatArray


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """Fits of a batch, the first-seat offset, and the noise variance of one verdict (None: no verdict to spare)."""

    fits: list[ScoreFit]
    seat_offset: float
    noise_variance: float | None


def fit_scores(tables: Sequence[VerdictTable]) -> ScoreBatch:
    """Fits every group of a batch; the first-seat offset is found from verdicts that close a cycle or repeat a pair.

    Where there are none (single matches between two, one-order brackets) the offset is not identified and is 0.
    """
    votes = [collect_votes(table) for table in tables]
    solvers = [_pseudo_inverse(vote.counts_NN) for vote in votes]
    offset_product = offset_square = 0.0
    degrees = 0.0
    for table, vote, (inverse_NN, num_parts) in zip(tables, votes, solvers, strict=True):
        num_verdicts = vote.counts_NN.sum()
        degrees += num_verdicts - (len(vote.candidates_N) - num_parts)
        if not table.symmetric:
            seats_N = vote.counts_NN.sum(1) - vote.counts_NN.sum(0)
            sums_N = vote.values_NN.sum(1) - vote.values_NN.sum(0)
            offset_product += vote.values_NN.sum() - seats_N @ inverse_NN @ sums_N
            offset_square += num_verdicts - seats_N @ inverse_NN @ seats_N
    identified = offset_square > _RANK_TOLERANCE * max(1.0, degrees)
    offset = float(offset_product / offset_square) if identified else 0.0
    largest = max((float(np.abs(vote.values_NN).max(initial=0.0)) for vote in votes), default=0.0)
    fits: list[ScoreFit] = []
    squares = 0.0
    for table, vote, (inverse_NN, _) in zip(tables, votes, solvers, strict=True):
        values_NN = vote.values_NN if table.symmetric else vote.values_NN - offset * vote.counts_NN
        strengths_N = inverse_NN @ (values_NN.sum(1) - values_NN.sum(0))
        # Rounding errors of level candidates must not become differences once they are divided by the batch's scale.
        strengths_N[np.abs(strengths_N) <= _RANK_TOLERANCE * largest] = 0.0
        fits.append(ScoreFit(vote.candidates_N, vote.num_verdicts_N, strengths_N, np.diagonal(inverse_NN)))
        squares += _squared_residuals(table, vote.candidates_N, strengths_N, 0.0 if table.symmetric else offset)
    degrees -= float(identified)
    return ScoreBatch(fits, offset, float(squares / degrees) if degrees > 0.5 else None)


def _pseudo_inverse(counts_NN: FloatArray) -> tuple[FloatArray, int]:
    """Moore-Penrose inverse of the match graph's Laplacian, and the graph's number of parts."""
    pairs_NN = counts_NN + counts_NN.T
    values_N, vectors_NN = np.linalg.eigh(np.diag(pairs_NN.sum(1)) - pairs_NN)
    live_N = values_N > _RANK_TOLERANCE * max(1.0, float(values_N.max(initial=0.0)))
    inverse_N = np.where(live_N, 1.0 / np.where(live_N, values_N, 1.0), 0.0)
    return (vectors_NN * inverse_N) @ vectors_NN.T, int((~live_N).sum())


def _squared_residuals(table: VerdictTable, candidates_N: np.ndarray, strengths_N: FloatArray, offset: float) -> float:
    strengths_C = np.zeros(table.num_candidates)
    strengths_C[candidates_N] = strengths_N
    residual_V = table.value_V - offset - strengths_C[table.first_V] + strengths_C[table.second_V]
    return float(table.weight_V @ residual_V**2)
