"""Win rate and rank quantile."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.aggregator_config import AggregatorConfig, RankQuantile, WinRate
from rewards.aggregators import build_aggregator
from rewards.simulate import SimulatedJudge, play
from rewards.topologies.round_robin import RoundRobinTopology
from rewards.types import MatchLog, Strengths, VerdictKind
from tests.rewards.logs import both_orders, log_of, match_logs, relabelled, seats_swapped

WIN_RATE = WinRate(kind="win_rate")
RANK_QUANTILE = RankQuantile(kind="rank_quantile")
CONFIGS = [WIN_RATE, RANK_QUANTILE]


def fit(config: AggregatorConfig, log: MatchLog, *, min_verdicts: int = 1) -> Strengths:
    (strengths,), prior = build_aggregator(config, min_verdicts=min_verdicts).fit([log])
    assert prior == {}
    return strengths


def rewards_of(config: AggregatorConfig, log: MatchLog) -> np.ndarray:
    return np.array(fit(config, log).rewards, dtype=float)


def test_win_rate_by_hand() -> None:
    # 0 beats 1 in both orders; 1 and 2 disagree over the orders (level); 0 and 2: one order failed, 2 won the other.
    log = log_of([(0, 1, 1.0), (1, 0, 0.0), (1, 2, 1.0), (2, 1, 1.0), (0, 2, None), (2, 0, 1.0)], 3)
    assert fit(WIN_RATE, log).rewards == [0.5, 0.25, 0.75]


def test_rank_quantile_by_hand() -> None:
    log = log_of([(0, 1, 1.0), (0, 2, 1.0), (0, 3, 1.0), (1, 2, 0.5), (1, 3, 1.0), (2, 3, 1.0)], 4)
    # Win rates 1, 1/2, 1/2, 0: ranks 0, 1.5, 1.5, 3.
    assert fit(RANK_QUANTILE, log).rewards == pytest.approx([1.0, 0.5, 0.5, 0.0])
    assert fit(RANK_QUANTILE, log).reliability is None


def test_a_total_order_gives_both_the_same_rewards() -> None:
    log = log_of([(i, j, 1.0) for i, j in combinations(range(5), 2)], 5)
    assert fit(WIN_RATE, log).rewards == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    assert fit(RANK_QUANTILE, log).rewards == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_missing_matches_leave_a_rollout_unscored(config: WinRate | RankQuantile) -> None:
    strengths = fit(config, log_of([(0, 1, 1.0), (1, 2, None), (0, 2, None)], 4))
    assert strengths.rewards == [1.0, 0.0, None, None]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_min_verdicts_counts_calls(config: WinRate | RankQuantile) -> None:
    log = log_of([*both_orders([(0, 1, 1.0)]), (1, 2, 1.0)], 3)
    assert fit(config, log, min_verdicts=2).rewards[2] is None
    assert fit(config, log, min_verdicts=4).rewards == [None] * 3


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_all_ties_give_one_half(config: WinRate | RankQuantile) -> None:
    log = log_of([(i, j, 0.5) for i, j in combinations(range(4), 2)], 4)
    assert fit(config, log).rewards == [0.5] * 4


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_scores_count_by_their_sign(config: WinRate | RankQuantile) -> None:
    scores = log_of([(0, 1, 0.01), (0, 2, 99.0), (1, 2, 3.0)], 3, "score")
    votes = log_of([(0, 1, 1.0), (0, 2, 1.0), (1, 2, 1.0)], 3)
    assert fit(config, scores).rewards == fit(config, votes).rewards


def test_win_rate_reliability_is_zero_for_coin_flips_and_a_lower_bound_for_an_order() -> None:
    order = log_of([(i, j, 1.0) for i, j in combinations(range(8), 2)], 8)
    # Win rates 0..7 over 7: variance 9/84; coin flips 1/28.
    assert fit(WIN_RATE, order).reliability == pytest.approx(1 - (1 / 28) / (9 / 84))
    rng = np.random.default_rng(0)
    flips = [play(RoundRobinTopology(), SimulatedJudge(), np.zeros(16), rng) for _ in range(200)]
    spreads = [np.var(np.array(fit(WIN_RATE, log).rewards, dtype=float)) for log in flips]
    assert np.mean(spreads) == pytest.approx(1 / 60, rel=0.1), "the null variance that the bound assumes"


relaxed = settings(max_examples=50)
kinds = pytest.mark.parametrize("kind", ["hard", "probability", "score"])


@kinds
@pytest.mark.parametrize("config", CONFIGS, ids=str)
class TestInvariances:
    @relaxed
    @given(data=st.data())
    def test_candidate_permutation(self, config: Any, kind: VerdictKind, data: st.DataObject) -> None:
        log = data.draw(match_logs(kind))
        new_slot = data.draw(st.permutations(range(log.num_candidates)))
        before, after = rewards_of(config, log), rewards_of(config, relabelled(log, new_slot))
        assert after[new_slot] == pytest.approx(before, abs=1e-9, nan_ok=True)

    @relaxed
    @given(data=st.data())
    def test_seats_do_not_matter(
        self, config: Any, kind: Literal["hard", "probability", "score"], data: st.DataObject
    ) -> None:
        log = data.draw(match_logs(kind))
        before, after = rewards_of(config, log), rewards_of(config, seats_swapped(log))
        assert after == pytest.approx(before, abs=1e-9, nan_ok=True)

    @relaxed
    @given(data=st.data())
    def test_rewards_lie_in_0_1(self, config: Any, kind: VerdictKind, data: st.DataObject) -> None:
        strengths = fit(config, data.draw(match_logs(kind)))
        assert all(0.0 <= reward <= 1.0 for reward in strengths.rewards if reward is not None)
        assert strengths.reliability is None or 0.0 <= strengths.reliability <= 1.0
