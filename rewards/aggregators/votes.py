"""From match logs to arrays: a table of verdicts, and votes as matrices.

Shapes: V verdicts; N candidates of a group that have at least one verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rewards.merging import merged_match
from rewards.types import MatchLog, VerdictKind

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Row = tuple[int, int, float, float, int, float]
"""(first, second, value, weight, match, value as said)."""

MAX_VOTE_WEIGHT = 16.0


@dataclass(frozen=True, slots=True)
class RankedSlate:
    """A ranking as an aggregator sees it: tiers from best to worst, level slots together; weight in plain calls."""

    tiers: tuple[tuple[int, ...], ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class VerdictTable:
    """The verdicts of one group as columns, V of them, in the order of the match log. Failed calls are absent.

    first_V, second_V: who was shown first and second. value_V: seen from the first, as the judge's kind says.
    said_V: the same before two orders were merged, which hides the judge's noise; None: nothing was merged.
    weight_V: what a verdict counts, in plain verdicts. match_V: number of its match; both orders share one.
    one_order: the judge can depend on the order and some match was asked in only one.
    ranking_V: number in `rankings` of the ranking that a row was read out of, -1 for a verdict about a pair.
    """

    num_candidates: int
    kind: VerdictKind
    first_V: IntArray
    second_V: IntArray
    value_V: FloatArray
    weight_V: FloatArray
    match_V: IntArray
    symmetric: bool = False
    one_order: bool = False
    ranking_V: IntArray | None = None
    rankings: tuple[RankedSlate, ...] = ()
    said_V: FloatArray | None = None

    @property
    def as_said(self) -> VerdictTable:
        """The verdicts as the judge gave them."""
        return self if self.said_V is None else replace(self, value_V=self.said_V)

    @property
    def wins_V(self) -> FloatArray:  # noqa: N802 - a shape suffix
        """The verdicts as wins of the first in [0, 1]; a score counts by its sign only."""
        return (np.sign(self.value_V) + 1.0) / 2.0 if self.kind == "score" else self.value_V


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """The verdicts of one group as matrices, by seats.

    candidates_N: slots that have at least one verdict, ascending; the other arrays are indexed like it.
    values_NN[f, s]: weighted sum of the verdicts of calls that showed f first and s second (for votes: wins of f).
    counts_NN[f, s]: their weights' sum.
    num_verdicts_N: verdicts that a candidate took part in, each counted as one.
    """

    candidates_N: IntArray
    values_NN: FloatArray
    counts_NN: FloatArray
    num_verdicts_N: IntArray


def verdict_table(log: MatchLog, judge_weights: Mapping[str, float] | None = None) -> VerdictTable:
    """The verdicts of a match log; a call weighs its own weight times its judge's (1 where none is given).

    A verdict of weight 0 is absent. A ranking of K adds a row of weight 2 / K for each of its K (K - 1) / 2 pairs:
    K - 1 together, as many verdicts as a sorted K needs (ours).

    Raises:
        ValueError: a call about a candidate that the group does not have.
    """
    judges = judge_weights or {}
    rows = [
        (
            call.first,
            call.second,
            call.verdict.value,
            call.weight * judges.get(call.judge, 1.0),
            number,
            said.verdict.value,
        )
        for number, match in enumerate(log.matches)
        for call, said in zip(merged_match(match, log.kind, log.merge).calls, match.calls, strict=True)
        if call.verdict.value is not None
    ]
    rankings = tuple(
        RankedSlate(ranking.tiers(), ranking.weight * judges.get(ranking.judge, 1.0))
        for ranking in log.rankings
        if ranking.places is not None and ranking.weight * judges.get(ranking.judge, 1.0) > 0.0
    )
    rows = [row for row in rows if row[3] > 0.0]
    ranking_V = [-1] * len(rows)
    for number, ranking in enumerate(rankings):
        pairs = _ranked_pairs(ranking, log.kind, len(log.matches) + len(rows))
        rows += pairs
        ranking_V += [number] * len(pairs)
    columns = np.array(rows, dtype=np.float64).reshape(-1, 6)
    seats_V2 = columns[:, :2].astype(np.int64)
    if seats_V2.size and seats_V2.max() >= log.num_candidates:
        raise ValueError(f"a match log of {log.num_candidates} candidates has a call about candidate {seats_V2.max()}")
    both_orders = bool(log.matches) and all(
        any(call.first != match.calls[0].first for call in match.calls) for match in log.matches
    )
    return VerdictTable(
        num_candidates=log.num_candidates,
        kind=log.kind,
        first_V=seats_V2[:, 0],
        second_V=seats_V2[:, 1],
        value_V=columns[:, 2],
        weight_V=columns[:, 3],
        match_V=columns[:, 4].astype(np.int64),
        symmetric=log.symmetric,
        one_order=not log.symmetric and not both_orders and not log.rankings,
        ranking_V=np.array(ranking_V, dtype=np.int64),
        rankings=rankings,
        said_V=columns[:, 5] if log.merge != "sum" else None,
    )


def _ranked_pairs(ranking: RankedSlate, kind: VerdictKind, match: int) -> list[Row]:
    """The rows of a ranking; matches are numbered from `match` on."""
    placed = [(slot, level) for level, tier in enumerate(ranking.tiers) for slot in tier]
    win, tie = (1.0, 0.0) if kind == "score" else (1.0, 0.5)
    weight = ranking.weight * 2.0 / len(placed)
    pairs = combinations(placed, 2)
    return [
        (better, worse, value, weight, match + number, value)
        for number, ((better, high), (worse, low)) in enumerate(pairs)
        for value in [win if high < low else tie]
    ]


def collect_votes(table: VerdictTable) -> Votes:
    """The verdicts of a table as matrices over the candidates that have any."""
    seats_V2 = np.stack([table.first_V, table.second_V], axis=-1)
    appearances_C = np.bincount(seats_V2.ravel(), minlength=table.num_candidates)
    candidates_N = np.flatnonzero(appearances_C)
    n = len(candidates_N)
    cells_V = np.searchsorted(candidates_N, seats_V2) @ np.array([n, 1])

    def matrix(weights_V: FloatArray) -> FloatArray:
        return np.bincount(cells_V, weights=weights_V, minlength=n * n).reshape(n, n).astype(np.float64)

    return Votes(
        candidates_N=candidates_N,
        values_NN=matrix(table.weight_V * table.value_V),
        counts_NN=matrix(table.weight_V),
        num_verdicts_N=appearances_C[candidates_N],
    )


def batch_kind(tables: Sequence[VerdictTable]) -> VerdictKind:
    """The verdict kind that all groups of a batch share; `hard` for an empty batch."""
    kinds = {table.kind for table in tables}
    if len(kinds) > 1:
        raise ValueError(f"a batch has one kind of verdict, got {sorted(kinds)}")
    return tables[0].kind if tables else "hard"


def asked_one_order(tables: Sequence[VerdictTable]) -> bool:
    """True if the judge can depend on the order and some match of the batch was asked in only one."""
    heard = [table for table in tables if len(table.first_V)]
    return any(table.one_order for table in heard) if heard else all(table.one_order for table in tables)


def probability_weight(tables: Sequence[VerdictTable]) -> float:
    """Effective number of hard votes in one probability verdict, from pairs that were asked in both orders (ours).

    w = mean[p (1 - p)] / mean[(y_ij - (1 - y_ji))^2 / (1 / n_ij + 1 / n_ji)], clipped to [1, 16]: the variance of a
    coin flip over that of one verdict. y is the mean of the n verdicts with these seats, of all judges and meetings; p
    is the mean of both orders. Where weights differ, n = (their sum)^2 / (sum of their squares). One number for all
    judges of the batch. 1 where no pair has both orders, or where every verdict is a certain 0 or 1 and no pair
    disagrees.
    """
    spread = noise = 0.0
    for table in tables:
        votes = collect_votes(table.as_said)
        squares_NN = collect_votes(replace(table, value_V=table.weight_V)).values_NN
        i, j = np.nonzero(np.triu((votes.counts_NN > 0) & (votes.counts_NN.T > 0)))
        one_order = votes.values_NN[i, j] / votes.counts_NN[i, j]
        other_order = 1.0 - votes.values_NN[j, i] / votes.counts_NN[j, i]
        mean = (one_order + other_order) / 2
        spread += float(np.sum(mean * (1.0 - mean)))
        # The difference of two means of n verdicts each has 2 / n times the variance of one.
        shares = squares_NN[i, j] / votes.counts_NN[i, j] ** 2 + squares_NN[j, i] / votes.counts_NN[j, i] ** 2
        noise += float(np.sum((one_order - other_order) ** 2 / shares))
    if spread == 0.0:
        return 1.0
    return float(np.clip(spread / noise, 1.0, MAX_VOTE_WEIGHT)) if noise > 0.0 else MAX_VOTE_WEIGHT


def scored_candidates(num_verdicts_N: IntArray, min_verdicts: int) -> NDArray[np.bool_]:
    """Who has enough verdicts. Nobody if that is only one: a reward is measured against scored others."""
    scored_N = num_verdicts_N >= min_verdicts
    return scored_N if scored_N.sum() > 1 else np.zeros_like(scored_N)
