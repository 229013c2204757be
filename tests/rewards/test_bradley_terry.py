"""Bradley-Terry and Borda: by hand and against another library."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rewards.aggregator_config import AggregatorConfig, Borda, BradleyTerry
from rewards.aggregators import build_aggregator
from rewards.aggregators.laplace import sigmoid
from rewards.types import MatchLog, Strengths
from tests.rewards.logs import log_of

BRADLEY_TERRY = BradleyTerry(kind="bradley_terry")
BORDA = Borda(kind="borda")


def fit(config: AggregatorConfig, log: MatchLog, *, min_verdicts: int = 1) -> Strengths:
    (one,), prior = build_aggregator(config, min_verdicts=min_verdicts).fit([log])
    assert prior == {}
    return one


def test_one_verdict_by_hand() -> None:
    # theta_0 = -theta_1 = t with t = s^2 (1 - sigmoid(2 t)), s = 2.
    strengths = fit(BRADLEY_TERRY, log_of([(0, 1, 1.0)], 2)).strengths
    assert strengths is not None
    first, second = strengths
    assert first is not None
    assert second == pytest.approx(-first)
    assert first == pytest.approx(4.0 * (1.0 - 1.0 / (1.0 + np.exp(-2.0 * first))), abs=1e-8)


def test_a_weak_prior_gives_the_maximum_likelihood_of_choix() -> None:
    import choix

    rng = np.random.default_rng(0)
    truth = rng.standard_normal(6)
    votes = [
        (i, j, float(rng.random() < sigmoid(truth[i] - truth[j])))
        for i, j in combinations(range(6), 2)
        for _ in range(30)
    ]
    data = [(i, j) if won else (j, i) for i, j, won in votes]
    expected = choix.ilsr_pairwise(6, data, alpha=0.0)
    found = fit(BradleyTerry(kind="bradley_terry", prior_sd=100.0), log_of(votes, 6)).strengths
    assert np.array(found, dtype=float) == pytest.approx(expected - expected.mean(), abs=5e-3)


def test_borda_by_hand_counts_every_opponent_once() -> None:
    # 0 beats 1 three times and loses to 2 once: (1 + 0) / 2, where win_rate over verdicts would say 3/4.
    log = log_of([(0, 1, 1.0), (1, 0, 0.0), (0, 1, 1.0), (0, 2, 0.0)], 3)
    assert fit(BORDA, log).rewards == [0.5, 0.0, 1.0]
    assert fit(BORDA, log_of([(0, 1, 0.5), (1, 2, 0.5), (0, 2, 0.5)], 3)).rewards == [0.5, 0.5, 0.5]


def test_a_judges_weight_counts_as_so_many_verdicts() -> None:
    once = log_of([(0, 1, 1.0), (1, 2, 1.0)], 3)
    thrice = log_of([(0, 1, 1.0)] * 3 + [(1, 2, 1.0)] * 3, 3)
    weighted = BradleyTerry(kind="bradley_terry", judge_weights={"test": 3.0})
    assert fit(weighted, once).rewards == pytest.approx(fit(BRADLEY_TERRY, thrice).rewards)
