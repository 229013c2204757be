"""Elo ratings: one verdict after the other (Elo 1978)."""

from __future__ import annotations

import math

import numpy as np

from rewards.aggregator_config import Elo
from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading, mean_over_scored
from rewards.aggregators.laplace import sigmoid
from rewards.aggregators.votes import FloatArray, IntArray, RankedSlate

_SCALE = 400.0 / math.log(10.0)
"""Points of a logit: 400 for odds of ten to one."""


class EloAggregator(GroupAggregator):
    """R_i <- R_i + k w (y - 1 / (1 + 10^((R_j - R_i) / 400))), from 1000; y = 1 win, 1/2 tie, or a probability.

    The order of verdicts matters. With `shuffles: 0` they are read once in the order of the log, after which come the
    pairs of rankings; otherwise ratings are the mean over so many seeded orders. Ratings start level and move by k at
    most, so few verdicts give small differences. reward_i: mean over the scored others of the expected score. Elo has
    no noise model: stderrs and reliability are None.
    """

    def __init__(self, config: Elo, *, min_verdicts: int = 1) -> None:
        super().__init__(min_verdicts=min_verdicts, judge_weights=config.judge_weights)
        self._k, self._shuffles = config.k, config.shuffles

    def _read(self, votes: GroupVotes) -> Reading:
        first_L, second_L, wins_L, weight_L = with_ranked_pairs(votes)
        orders = [np.arange(len(wins_L))]
        if self._shuffles:
            rng = np.random.default_rng(0)
            orders = [rng.permutation(len(wins_L)) for _ in range(self._shuffles)]
        ratings_N = np.mean(
            [_play(votes.num_candidates, self._k, first_L[o], second_L[o], wins_L[o], weight_L[o]) for o in orders],
            axis=0,
        )
        expected_NN = sigmoid((ratings_N[:, None] - ratings_N[None, :]) / _SCALE)
        return Reading(mean_over_scored(expected_NN, votes.scored_N), strengths_N=ratings_N)


def _play(
    num_candidates: int, k: float, first_L: IntArray, second_L: IntArray, wins_L: FloatArray, weight_L: FloatArray
) -> list[float]:
    ratings = [1000.0] * num_candidates
    rows = zip(first_L.tolist(), second_L.tolist(), wins_L.tolist(), weight_L.tolist(), strict=True)
    for first, second, won, weight in rows:
        expected = 0.5 + 0.5 * math.tanh((ratings[first] - ratings[second]) / (2.0 * _SCALE))  # as `sigmoid`
        gain = k * weight * (won - expected)
        ratings[first] += gain
        ratings[second] -= gain
    return ratings


def with_ranked_pairs(votes: GroupVotes) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Verdicts about pairs one by one, those read out of rankings last: first_L, second_L, wins_L, weight_L."""
    rows = [row for ranking in votes.rankings for row in _ranked_pairs(ranking)]
    more_R4 = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return (
        np.append(votes.first_L, more_R4[:, 0].astype(np.int64)),
        np.append(votes.second_L, more_R4[:, 1].astype(np.int64)),
        np.append(votes.wins_L, more_R4[:, 2]),
        np.append(votes.weight_L, more_R4[:, 3]),
    )


def _ranked_pairs(ranking: RankedSlate) -> list[tuple[int, int, float, float]]:
    placed = [(slot, level) for level, tier in enumerate(ranking.tiers) for slot in tier]
    weight = 2.0 * ranking.weight / len(placed)
    return [
        (slot, other, 1.0 if level < lower else 0.5, weight)
        for number, (slot, level) in enumerate(placed)
        for other, lower in placed[number + 1 :]
    ]
