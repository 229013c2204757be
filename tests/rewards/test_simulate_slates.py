"""Simulated rankings have the noise of simulated pairs."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest

from rewards.aggregator_config import EmpiricalBayes
from rewards.aggregators.votes import FloatArray
from rewards.simulate import SimulatedJudge
from rewards.simulate_slates import play_slates, rank
from rewards.simulation_grid import Scene, run_grid
from rewards.topologies.k_wise import KWiseTopology
from rewards.topology_config import KWise, RoundRobin
from rewards.types import Ranking, Slate

STRENGTHS: FloatArray = np.array([0.0, 1.0, -0.5, 0.7])
SLATE = Slate((0, 1, 2, 3))


def gaps(strengths_N: FloatArray) -> np.ndarray:
    return strengths_N[:, None] - strengths_N[None, :]


def many(judge: SimulatedJudge, count: int = 6000, strengths_N: FloatArray = STRENGTHS) -> list[Ranking]:
    rng = np.random.default_rng(0)
    return [rank(judge, gaps(strengths_N), SLATE, SLATE.members, rng) for _ in range(count)]


def share_won(rankings: list[Ranking], i: int, j: int) -> float:
    return float(np.mean([ranking.places[i] < ranking.places[j] for ranking in rankings if ranking.places]))


def test_hard_rankings_follow_plackett_luce() -> None:
    rankings = many(SimulatedJudge(), 20_000)
    worth = np.exp(STRENGTHS)
    seen = Counter(tuple(slot for (slot,) in ranking.tiers()) for ranking in rankings)
    for order in permutations(range(4)):
        chosen = worth[list(order)]
        expected = np.prod(chosen / np.cumsum(chosen[::-1])[::-1])
        assert seen[order] / 20_000 == pytest.approx(float(expected), abs=4 * np.sqrt(expected / 20_000))


def test_any_two_of_a_slate_are_a_pair_of_the_same_judge() -> None:
    rankings = many(SimulatedJudge())
    for i, j in combinations(range(4), 2):
        assert share_won(rankings, i, j) == pytest.approx(1.0 / (1.0 + np.exp(STRENGTHS[j] - STRENGTHS[i])), abs=0.025)


def test_noise_of_a_judge_without_coin_flips_is_that_of_a_pair() -> None:
    judge, rng = SimulatedJudge(kind="score", noise=1.5), np.random.default_rng(1)
    rankings = many(judge)
    values = [judge.call(gaps(STRENGTHS), 1, 0, rng).verdict.value for _ in range(6000)]
    pairs = np.mean([value is not None and value > 0 for value in values])
    assert share_won(rankings, 1, 0) == pytest.approx(float(pairs), abs=0.03)
    assert all(ranking.places == (2, 0, 3, 1) for ranking in many(SimulatedJudge(kind="score"), 5))


def test_seats_coins_and_failures() -> None:
    level = np.zeros(4)
    biased = many(SimulatedJudge(seat_bias=1.2), strengths_N=level)
    assert share_won(biased, 0, 3) == pytest.approx(1 / (1 + np.exp(-1.2)), abs=0.025)
    assert share_won(biased, 0, 1) == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.025)
    assert share_won(many(SimulatedJudge(coin_share=0.5), strengths_N=50 * STRENGTHS), 1, 0) == pytest.approx(
        0.75, abs=0.025
    )
    failed = [ranking for ranking in many(SimulatedJudge(failure_rate=0.25)) if ranking.places is None]
    assert len(failed) / 6000 == pytest.approx(0.25, abs=0.025)


@pytest.mark.parametrize(
    ("orders", "symmetric", "calls"), [("random", False, 8), ("both", False, 16), ("both", True, 8)]
)
def test_a_tournament_costs_what_it_says(orders: str, symmetric: bool, calls: int) -> None:
    log = play_slates(
        KWiseTopology(4),
        SimulatedJudge(failure_rate=0.2),
        np.array([float(n) for n in range(8)]),
        np.random.default_rng(0),
        orders="both" if orders == "both" else "random",
        symmetric=symmetric,
    )
    assert (len(log.rankings), log.matches, log.kind, log.symmetric) == (calls, (), "hard", symmetric)


def test_equal_generators_play_equal_tournaments() -> None:
    logs = [
        play_slates(
            KWiseTopology(3), SimulatedJudge(), np.array([float(n) for n in range(9)]), np.random.default_rng(seed)
        )
        for seed in (3, 3, 4)
    ]
    assert logs[0] == logs[1] != logs[2]


def test_eight_calls_of_four_are_worth_as_much_as_a_round_robin_of_eight() -> None:
    topologies = {"k_wise": KWise(kind="k_wise"), "round_robin": RoundRobin()}
    scene = Scene(group_size=8, equal_share=0.4, num_groups=32, num_batches=3)
    k_wise, round_robin = run_grid(scene, ["bradley_terry"], topologies, {"eb": EmpiricalBayes()})
    assert (k_wise.calls_per_group, round_robin.calls_per_group) == (8, 28)
    assert k_wise.fidelity == pytest.approx(round_robin.fidelity, abs=0.05)
    assert k_wise.unscored == 0.0
