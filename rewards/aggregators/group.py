"""Aggregators that read one group at a time: verdicts as who beat whom, seats forgotten.

Shapes: N candidates of the group that have at least one verdict; L verdicts about a pair, in the log's order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators.base import TableAggregator, in_slots
from rewards.aggregators.votes import FloatArray, IntArray, RankedSlate, VerdictTable, collect_votes, scored_candidates
from rewards.types import Prior, Strengths


@dataclass(frozen=True, slots=True, eq=False)
class GroupVotes:
    """One group's verdicts; candidates are numbered 0..N-1 among those that have any.

    wins_NN[i, j]: weighted wins of i over j, a tie half a win for both, a score by its sign, a ranking by its pairs.
    ties_NN[i, j]: weight of the verdicts that call i and j level; symmetric.
    first_L, second_L, wins_L, weight_L: verdicts about a pair one by one, those of rankings left out.
    rankings: tiers from best to worst, in the same numbers.
    scored_N: who has enough verdicts for a reward; nobody if that is only one.
    """

    wins_NN: FloatArray
    ties_NN: FloatArray
    first_L: IntArray
    second_L: IntArray
    wins_L: FloatArray
    weight_L: FloatArray
    rankings: tuple[RankedSlate, ...]
    scored_N: NDArray[np.bool_]

    @property
    def num_candidates(self) -> int:
        return len(self.scored_N)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What an aggregator makes of a group; arrays have one entry per candidate of `GroupVotes`."""

    rewards_N: FloatArray
    strengths_N: FloatArray | None = None
    stderrs_N: FloatArray | None = None
    reliability: float | None = None
    feedback_weight: float | None = None


class GroupAggregator(TableAggregator):
    """Reads every group by itself: no prior, and a batch's groups do not look at each other."""

    def _fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None) -> tuple[list[Strengths], Prior]:
        return [self._fit_group(table) for table in tables], {}

    def _fit_group(self, table: VerdictTable) -> Strengths:
        slots_N, votes = group_votes(table, self._min_verdicts)
        if not votes.scored_N.any():
            return Strengths([None] * table.num_candidates)
        reading = self._read(votes)

        def slots(values_N: FloatArray | None) -> list[float | None] | None:
            if values_N is None:
                return None
            return in_slots(table.num_candidates, slots_N[votes.scored_N], values_N[votes.scored_N])

        return Strengths(
            rewards=slots(reading.rewards_N) or [],
            reliability=reading.reliability,
            strengths=slots(reading.strengths_N),
            stderrs=slots(reading.stderrs_N),
            feedback_weight=reading.feedback_weight,
        )

    @abstractmethod
    def _read(self, votes: GroupVotes) -> Reading:
        """Reads a group of which two candidates or more are scored."""


def group_votes(table: VerdictTable, min_verdicts: int) -> tuple[IntArray, GroupVotes]:
    """The slots that have a verdict, ascending, and the verdicts in their numbers."""
    hard = replace(table, value_V=table.wins_V, kind="hard")
    votes = collect_votes(hard)
    ties = collect_votes(replace(hard, value_V=(hard.value_V == 0.5).astype(np.float64)))
    numbers_C = np.full(table.num_candidates, -1, np.int64)
    numbers_C[votes.candidates_N] = np.arange(len(votes.candidates_N))
    pair_V = np.ones(len(table.first_V), bool) if table.ranking_V is None else table.ranking_V < 0
    return votes.candidates_N, GroupVotes(
        wins_NN=votes.values_NN + (votes.counts_NN - votes.values_NN).T,
        ties_NN=ties.values_NN + ties.values_NN.T,
        first_L=numbers_C[table.first_V[pair_V]],
        second_L=numbers_C[table.second_V[pair_V]],
        wins_L=hard.value_V[pair_V],
        weight_L=table.weight_V[pair_V],
        rankings=tuple(
            RankedSlate(tuple(tuple(int(numbers_C[slot]) for slot in tier) for tier in ranking.tiers), ranking.weight)
            for ranking in table.rankings
        ),
        scored_N=scored_candidates(votes.num_verdicts_N, min_verdicts),
    )


def mean_over_scored(values_NN: FloatArray, scored_N: NDArray[np.bool_]) -> FloatArray:
    """Mean of each row over the scored others; the diagonal is left out."""
    shares_NN = scored_N[None, :] * ~np.eye(len(scored_N), dtype=bool)
    return (values_NN * shares_NN).sum(1) / np.maximum(shares_NN.sum(1), 1)


def signal_share(values_N: FloatArray, variance_N: FloatArray, scored_N: NDArray[np.bool_]) -> float:
    """Reliability: the variance of the posterior means over itself and the mean posterior variance."""
    signal, noise = float(values_N[scored_N].var()), float(variance_N[scored_N].mean())
    return signal / (signal + noise) if signal + noise > 0.0 else 0.0
