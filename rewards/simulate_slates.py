"""Simulated judges that rank a slate in one call, with the noise that they have for pairs (ours).

Shapes: N candidates of a group, K of a slate.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregators.votes import FloatArray
from rewards.judges.places import places_of
from rewards.seating import Orders, merged_tiers, slate_orders
from rewards.simulate import SimulatedJudge
from rewards.types import MatchLog, Ranking, Slate, SlateTopology, TournamentState


def rank(
    judge: SimulatedJudge, gaps_NN: FloatArray, slate: Slate, shown: tuple[int, ...], rng: np.random.Generator
) -> Ranking:
    """One call: the candidates in the order of their utilities.

    A utility is the mean gap to the slate plus noise. A hard judge adds Gumbel noise, so that its rankings follow
    Plackett-Luce (Luce 1959, Yellott 1977) and any two of a slate Bradley-Terry, with the logit that a pair has.
    `noise` is split between the two of a pair. `seat_bias` falls evenly from the first seat to the last, which has
    none, so with two it is what a pair has. A coin orders the whole slate by lot. What no order explains (`cycle`) is
    averaged.
    """
    if rng.random() < judge.failure_rate:
        return Ranking(slate, shown, None, "simulated", "empty")
    k = len(shown)
    utilities_K = gaps_NN[np.ix_(shown, shown)].mean(-1) + judge.seat_bias * np.arange(k)[::-1] / (k - 1)
    utilities_K = utilities_K + judge.noise / np.sqrt(2.0) * rng.standard_normal(k)
    if judge.coin_share and rng.random() < judge.coin_share:
        utilities_K = 0.0 * utilities_K
    if judge.kind == "hard":
        utilities_K = utilities_K + rng.gumbel(size=k)
    return Ranking(slate, shown, places_of(utilities_K.tolist()), "simulated")


def play_slates(
    topology: SlateTopology,
    judge: SimulatedJudge,
    strengths_N: FloatArray,
    rng: np.random.Generator,
    *,
    orders: Orders = "random",
    symmetric: bool = False,
) -> MatchLog:
    """A whole tournament of slates; a symmetric judge is asked once a slate, whatever the orders."""
    gaps_NN = judge.perceive(strengths_N, rng)
    num_candidates = len(strengths_N)
    arrived = frozenset(range(num_candidates))
    seed = int(rng.integers(2**63))
    tiers: dict[Slate, tuple[tuple[int, ...], ...]] = {}
    rankings: list[Ranking] = []
    while playable := topology.playable(TournamentState(num_candidates, arrived, True, {}, seed, rankings=tiers)):
        for slate in playable:
            orders_of = slate_orders(slate, orders, symmetric, seed)
            calls = [rank(judge, gaps_NN, slate, shown, rng) for shown in orders_of]
            rankings += calls
            tiers[slate] = merged_tiers(calls)
    return MatchLog(num_candidates, "hard", (), symmetric, tuple(rankings))
