"""Bradley-Terry and Borda: by hand, against other libraries, and on everything a tournament can produce."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.aggregator_config import AggregatorConfig, Borda, BradleyTerry
from rewards.aggregators import build_aggregator
from rewards.aggregators.laplace import sigmoid
from rewards.types import MatchLog, Strengths
from tests.rewards.logs import both_orders, log_of, match_logs, relabelled

BRADLEY_TERRY = BradleyTerry(kind="bradley_terry")
BORDA = Borda(kind="borda")
BOTH = pytest.mark.parametrize("config", [BRADLEY_TERRY, BORDA], ids=["bradley_terry", "borda"])


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


@BOTH
def test_ties_are_one_half_and_a_clear_order_is_kept(config: AggregatorConfig) -> None:
    ties = log_of(both_orders([(i, j, 0.5) for i, j in combinations(range(4), 2)]), 4)
    assert fit(config, ties).rewards == pytest.approx([0.5] * 4, abs=1e-12)
    clear = fit(config, log_of([(i, j, 1.0) for i, j in combinations(range(4), 2)], 4)).rewards
    assert clear == sorted(clear, key=lambda reward: -(reward or 0.0))
    assert sum(reward or 0.0 for reward in clear) == pytest.approx(2.0)


@BOTH
def test_who_has_too_few_verdicts_is_unscored(config: AggregatorConfig) -> None:
    log = log_of([(0, 1, 1.0), (1, 0, 0.0), (1, 2, 1.0), (0, 2, None)], 4)
    assert [reward is None for reward in fit(config, log).rewards] == [False, False, False, True]
    assert [reward is None for reward in fit(config, log, min_verdicts=2).rewards] == [False, False, True, True]
    assert fit(config, log_of([], 3)).rewards == [None] * 3


@BOTH
def test_parts_that_never_met_and_scores_are_taken(config: AggregatorConfig) -> None:
    apart = fit(config, log_of([(0, 1, 1.0), (2, 3, 1.0)], 4)).rewards
    assert apart[0] == pytest.approx(apart[2])
    assert apart[1] == pytest.approx(apart[3])
    scores = fit(config, log_of([(0, 1, 7.5), (1, 2, 0.2), (0, 2, 3.0)], 3, "score")).rewards
    assert scores == fit(config, log_of([(0, 1, 1.0), (1, 2, 1.0), (0, 2, 1.0)], 3)).rewards


@BOTH
@given(log=match_logs("probability"), data=st.data())
@settings(max_examples=40, deadline=None)
def test_names_do_not_matter_and_groups_do_not_look_at_each_other(
    config: AggregatorConfig, log: MatchLog, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(log.num_candidates)))
    alone, moved = fit(config, log), fit(config, relabelled(log, list(order)))
    for i, reward in enumerate(alone.rewards):
        assert moved.rewards[order[i]] == (None if reward is None else pytest.approx(reward, abs=1e-7))
        assert reward is None or 0.0 <= reward <= 1.0
    other = log_of([(0, 1, 1.0), (1, 2, 0.0)], 3, "probability")
    beside, _ = build_aggregator(config).fit([other, log, other])
    assert beside[1].rewards == [None if r is None else pytest.approx(r, abs=1e-12) for r in alone.rewards]


def test_a_judges_weight_counts_as_so_many_verdicts() -> None:
    once = log_of([(0, 1, 1.0), (1, 2, 1.0)], 3)
    thrice = log_of([(0, 1, 1.0)] * 3 + [(1, 2, 1.0)] * 3, 3)
    weighted = BradleyTerry(kind="bradley_terry", judge_weights={"test": 3.0})
    assert fit(weighted, once).rewards == pytest.approx(fit(BRADLEY_TERRY, thrice).rewards)
