"""Simulated tournaments with a known truth: hidden strengths, noisy judges, mixed batches (ours).

Everything is a pure function of its arguments and the generator passed in. Shapes: G groups, N candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.laplace import sigmoid
from rewards.aggregators.votes import FloatArray
from rewards.types import (
    Call,
    Match,
    MatchLog,
    Orders,
    Pairing,
    Topology,
    TournamentState,
    Verdict,
    VerdictKind,
)


@dataclass(frozen=True, slots=True)
class SimulatedJudge:
    """A Bradley-Terry judge: sees theta_first - theta_second + seat_bias, and answers as its kind says.

    hard: a coin flip with that logit. probability: sigmoid of the logit plus noise. score: the logit plus noise,
    times `unit`. candidate_error: standard deviation of a fixed error per rollout, the same in all of its matches (a
    consistent but wrong judge). noise: standard deviation of the error of each call. failure_rate: calls without a
    verdict. coin_share: calls that are answered by a coin. cycle: logits of a rock-paper-scissors part, sin of the
    difference of two random angles, which no order explains.
    """

    kind: VerdictKind = "hard"
    seat_bias: float = 0.0
    candidate_error: float = 0.0
    noise: float = 0.0
    unit: float = 1.0
    failure_rate: float = 0.0
    coin_share: float = 0.0
    cycle: float = 0.0

    def perceive(self, strengths_N: FloatArray, rng: np.random.Generator) -> FloatArray:
        """gaps_NN: logits of each before each other as this judge sees them in one group, seats apart."""
        perceived_N = strengths_N + self.candidate_error * rng.standard_normal(strengths_N.shape)
        gaps_NN = perceived_N[:, None] - perceived_N[None, :]
        if self.cycle:
            phases_N = 2.0 * np.pi * rng.random(strengths_N.shape)
            gaps_NN = gaps_NN + self.cycle * np.sin(phases_N[:, None] - phases_N[None, :])
        return gaps_NN

    def call(self, gaps_NN: FloatArray, first: int, second: int, rng: np.random.Generator) -> Call:
        if rng.random() < self.failure_rate:
            return Call(first, second, Verdict(None, "empty"), "simulated")
        logit = gaps_NN[first, second] + self.seat_bias + self.noise * rng.standard_normal()
        if self.coin_share and rng.random() < self.coin_share:
            logit = 0.0 * logit
        if self.kind == "score":
            value = self.unit * logit
        elif self.kind == "probability":
            value = sigmoid(logit)
        else:
            value = rng.random() < sigmoid(logit)
        return Call(first, second, Verdict(float(value)), "simulated")


def mixed_strengths(
    num_groups: int, num_candidates: int, *, equal_share: float, scale: float, rng: np.random.Generator
) -> FloatArray:
    """strengths_GN of a batch: about `equal_share` of the groups have no differences, the others Normal(0, scale^2)."""
    decisive_G1 = rng.random((num_groups, 1)) >= equal_share
    return decisive_G1 * scale * rng.standard_normal((num_groups, num_candidates))


def true_rewards(strengths_N: FloatArray) -> FloatArray:
    """Mean over the others of P(i beats j); its mean over the group is 1/2."""
    p_NN = sigmoid(strengths_N[:, None] - strengths_N[None, :])
    return (p_NN.sum(-1) - 0.5) / (len(strengths_N) - 1)


def play(
    topology: Topology,
    judge: SimulatedJudge,
    strengths_N: FloatArray,
    rng: np.random.Generator,
    *,
    orders: Orders = "random",
    symmetric: bool = False,
) -> MatchLog:
    """A whole tournament; a symmetric judge is asked once a match, whatever the orders."""
    gaps_NN = judge.perceive(strengths_N, rng)
    num_candidates = len(strengths_N)
    arrived = frozenset(range(num_candidates))
    seed = int(rng.integers(2**63))
    results: dict[Pairing, float | None] = {}
    matches: list[Match] = []
    while playable := topology.playable(TournamentState(num_candidates, arrived, True, results, seed)):
        for pairing in playable:
            seats = draw_seats(pairing, orders, symmetric, rng)
            match = Match(pairing, tuple(judge.call(gaps_NN, first, second, rng) for first, second in seats))
            matches.append(match)
            results[pairing] = match.result(judge.kind)
    return MatchLog(num_candidates, judge.kind, tuple(matches), symmetric)


def draw_seats(pairing: Pairing, orders: Orders, symmetric: bool, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Who is shown first and second in each call of a match."""
    if orders == "both_if_close":
        raise ValueError("simulated judges are asked first, random or both")
    forward, backward = (pairing.a, pairing.b), (pairing.b, pairing.a)
    if symmetric or orders == "first":
        return [forward]
    return [forward, backward] if orders == "both" else [(forward, backward)[int(rng.integers(2))]]


def fidelity(rewards_per_group: Sequence[FloatArray], strengths_GN: FloatArray) -> float:
    """Cosine between a batch's concatenated centred rewards (or advantages) and the true ones."""
    given = np.concatenate([rewards_N - rewards_N.mean() for rewards_N in rewards_per_group])
    truth = np.concatenate([true_rewards(strengths_N) - 0.5 for strengths_N in strengths_GN])
    norm = float(np.linalg.norm(given) * np.linalg.norm(truth))
    return float(given @ truth) / norm if norm > 0.0 else 0.0
