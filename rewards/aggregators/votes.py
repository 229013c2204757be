"""From match logs to arrays of votes: the sufficient statistics of hard and probability verdicts.

Shapes: N candidates of a group that have at least one verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewards.types import MatchLog, VerdictKind

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_VOTE_WEIGHT = 16.0


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """The verdicts of one group, by seats.

    candidates_N: slots that have at least one verdict, ascending; the other arrays are indexed like it.
    values_NN[f, s]: sum of the verdicts of calls that showed f first and s second (for votes: wins of f).
    counts_NN[f, s]: how many verdicts that were.
    num_verdicts_N: verdicts that a candidate took part in.
    """

    candidates_N: IntArray
    values_NN: FloatArray
    counts_NN: FloatArray
    num_verdicts_N: IntArray


def collect_votes(log: MatchLog) -> Votes:
    """The verdicts of a match log. Failed calls are absent; each order of a match is a verdict of weight 1."""
    seats: list[tuple[int, int]] = []
    values: list[float] = []
    for match in log.matches:
        for call in match.calls:
            value = call.verdict.value
            if value is not None:
                seats.append((call.first, call.second))
                values.append(value)
    seats_V2 = np.array(seats, dtype=np.int64).reshape(-1, 2)
    if seats_V2.size and seats_V2.max() >= log.num_candidates:
        raise ValueError(f"a match log of {log.num_candidates} candidates has a call about candidate {seats_V2.max()}")
    appearances_C = np.bincount(seats_V2.ravel(), minlength=log.num_candidates)
    candidates_N = np.flatnonzero(appearances_C)
    n = len(candidates_N)
    cells_V = np.searchsorted(candidates_N, seats_V2) @ np.array([n, 1])
    return Votes(
        candidates_N=candidates_N,
        values_NN=np.bincount(cells_V, weights=np.array(values, float), minlength=n * n)
        .reshape(n, n)
        .astype(np.float64),
        counts_NN=np.bincount(cells_V, minlength=n * n).reshape(n, n).astype(np.float64),
        num_verdicts_N=appearances_C[candidates_N],
    )


def batch_kind(logs: Sequence[MatchLog]) -> VerdictKind:
    """The verdict kind that all logs of a batch share; `hard` for an empty batch."""
    kinds = {log.kind for log in logs}
    if len(kinds) > 1:
        raise ValueError(f"a batch has one kind of verdict, got {sorted(kinds)}")
    return logs[0].kind if logs else "hard"


def asked_one_order(logs: Sequence[MatchLog]) -> bool:
    """True if the judge can depend on the order and no match of the batch was asked in both."""
    return not any(
        log.symmetric or any(call.first != match.calls[0].first for match in log.matches for call in match.calls)
        for log in logs
    )


def probability_weight(votes: Sequence[Votes]) -> float:
    """Effective number of hard votes in one probability verdict, from pairs that were asked in both orders (ours).

    w = mean[p (1 - p)] / mean[(y_ij - (1 - y_ji))^2 / 2], clipped to [1, 16], where p is the mean of both orders:
    the variance of a coin flip over the judge's own variance. 1 where no pair has both orders, or where every
    verdict is a certain 0 or 1 and no pair disagrees.
    """
    spread = noise = 0.0
    for vote in votes:
        i, j = np.nonzero(np.triu((vote.counts_NN > 0) & (vote.counts_NN.T > 0)))
        one_order = vote.values_NN[i, j] / vote.counts_NN[i, j]
        other_order = 1.0 - vote.values_NN[j, i] / vote.counts_NN[j, i]
        mean = (one_order + other_order) / 2
        spread += float(np.sum(mean * (1.0 - mean)))
        noise += float(np.sum((one_order - other_order) ** 2)) / 2
    if spread == 0.0:
        return 1.0
    return float(np.clip(spread / noise, 1.0, MAX_VOTE_WEIGHT)) if noise > 0.0 else MAX_VOTE_WEIGHT


def scored_candidates(num_verdicts_N: IntArray, min_verdicts: int) -> NDArray[np.bool_]:
    """Who has enough verdicts. Nobody if that is only one: a reward is measured against scored others."""
    scored_N = num_verdicts_N >= min_verdicts
    return scored_N if scored_N.sum() > 1 else np.zeros_like(scored_N)
