"""Empirical Bayes on `score` verdicts: batch-scaled least squares."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rewards.aggregator_config import EmpiricalBayes, RankQuantile, WinRate
from rewards.aggregators import reward_unit
from rewards.aggregators.empirical_bayes import EmpiricalBayesAggregator
from rewards.aggregators.score_strengths import fit_scores
from rewards.aggregators.votes import verdict_table
from rewards.simulate import SimulatedJudge, fidelity, mixed_strengths, play
from rewards.topologies.round_robin import RoundRobinTopology
from rewards.types import MatchLog, Strengths
from tests.rewards.logs import both_orders, log_of, match_logs, relabelled, seats_swapped


def fit(logs: list[MatchLog]) -> list[Strengths]:
    return EmpiricalBayesAggregator().fit(logs)[0]


def rewards_of(*logs: MatchLog) -> list[np.ndarray]:
    return [np.array(strengths.rewards, dtype=float) for strengths in fit(list(logs))]


def scaled(log: MatchLog, factor: float) -> MatchLog:
    votes = [
        (call.first, call.second, None if call.verdict.value is None else factor * call.verdict.value)
        for match in log.matches
        for call in match.calls
    ]
    return log_of(votes, log.num_candidates, "score", symmetric=log.symmetric)


def test_by_hand() -> None:
    # theta = (2, 0, -2) exactly; RMS over the batch of one group sqrt(8/3).
    log = log_of(both_orders([(0, 1, 2.0), (1, 2, 2.0), (0, 2, 4.0)], "score"), 3, "score")
    (strengths,) = fit([log])
    assert strengths.rewards == pytest.approx([2 / np.sqrt(8 / 3), 0.0, -2 / np.sqrt(8 / 3)])
    assert strengths.reliability == pytest.approx(1.0)


def test_one_scale_for_the_whole_batch_never_the_groups_own() -> None:
    wide, narrow = ([(0, 1, gap), (1, 2, gap), (0, 2, 2 * gap)] for gap in (3.0, 0.3))
    logs = [log_of(both_orders(votes, "score"), 3, "score") for votes in (wide, narrow)]
    big, small = rewards_of(*logs)
    assert big == pytest.approx(10 * small)


def test_least_squares_agrees_with_a_general_solver() -> None:
    rng = np.random.default_rng(0)
    votes = [(int(i), int(j), float(rng.normal())) for i, j in rng.integers(0, 6, (40, 2)) if i != j]
    batch = fit_scores([verdict_table(log_of(votes, 6, "score"))])
    design = np.zeros((len(votes), 7))
    for row, (first, second, _) in enumerate(votes):
        design[row, first], design[row, second], design[row, 6] = 1.0, -1.0, 1.0
    values = np.array([value for _, _, value in votes])
    solution, *_ = np.linalg.lstsq(design, values, rcond=None)
    assert batch.seat_offset == pytest.approx(solution[6])
    assert batch.fits[0].strengths_N == pytest.approx(solution[:6] - solution[:6].mean())
    residual = values - design @ solution
    assert batch.noise_variance == pytest.approx(residual @ residual / (len(votes) - 6))


def test_a_seat_offset_does_not_reach_the_rewards() -> None:
    rng = np.random.default_rng(1)
    strengths_GN = rng.standard_normal((20, 6))
    for both in (True, False):
        judge, biased = SimulatedJudge(kind="score"), SimulatedJudge(kind="score", seat_bias=5.0)
        plain, shifted = (
            [
                play(
                    RoundRobinTopology(),
                    kind,
                    strengths_N,
                    np.random.default_rng(k),
                    orders="both" if both else "random",
                )
                for k, strengths_N in enumerate(strengths_GN)
            ]
            for kind in (judge, biased)
        )
        for before, after in zip(rewards_of(*plain), rewards_of(*shifted), strict=True):
            assert after == pytest.approx(before, abs=1e-9)


def test_single_meetings_in_one_order_cannot_tell_the_seat() -> None:
    batch = fit_scores([verdict_table(log_of([(0, 1, value)], 2, "score")) for value in (3.0, 1.0)])
    assert batch.seat_offset == 0.0
    assert batch.noise_variance is None
    assert fit([log_of([(0, 1, 3.0)], 2, "score", symmetric=True)])[0].reliability is None


def test_missing_matches_and_unscored_rollouts() -> None:
    log = log_of(both_orders([(0, 1, 2.0), (1, 2, 2.0), (0, 3, None)], "score"), 4, "score")
    (strengths,) = fit([log])
    assert strengths.rewards[3] is None
    assert strengths.rewards[:3] == pytest.approx([np.sqrt(1.5), 0.0, -np.sqrt(1.5)])
    assert strengths.stderrs is not None
    assert strengths.stderrs[3] is None


def test_no_verdicts() -> None:
    (strengths,) = fit([log_of([(0, 1, None)], 3, "score")])
    assert strengths.rewards == [None, None, None]


def test_all_level_is_zero() -> None:
    votes = both_orders([(i, j, 0.0) for i, j in combinations(range(4), 2)], "score")
    (strengths,) = fit([log_of(votes, 4, "score")])
    assert strengths.rewards == [0.0] * 4
    assert strengths.reliability == 0.0


def test_a_disconnected_graph_centres_each_part() -> None:
    (rewards,) = rewards_of(log_of([(0, 1, 2.0), (2, 3, 4.0)], 4, "score", symmetric=True))
    assert rewards == pytest.approx(np.array([1.0, -1.0, 2.0, -2.0]) / np.sqrt(2.5))


def test_the_scale_is_carried_with_decay() -> None:
    log = log_of([(0, 1, 2.0)], 2, "score", symmetric=True)  # strengths +1, -1: squares 2, rollouts 2
    aggregator = EmpiricalBayesAggregator(EmpiricalBayes(prior_decay=0.5))
    _, prior = aggregator.fit([log])
    assert (prior["score_squares"], prior["score_rollouts"]) == pytest.approx((1.0, 1.0))
    (strengths,), _ = aggregator.fit([scaled(log, 3.0)], prior)
    # (1 + 18) / (1 + 2): the new group is wider than the running scale.
    assert strengths.rewards == pytest.approx([3 / np.sqrt(19 / 3), -3 / np.sqrt(19 / 3)])


def test_reliability_falls_with_the_judges_own_noise() -> None:
    rng = np.random.default_rng(3)
    strengths_GN = rng.standard_normal((16, 8))
    means = []
    for noise in (0.0, 1.0, 10.0):
        judge = SimulatedJudge(kind="score", noise=noise)
        logs = [play(RoundRobinTopology(), judge, strengths_N, rng, orders="both") for strengths_N in strengths_GN]
        means.append(np.mean([strengths.reliability or 0.0 for strengths in fit(logs)]))
    assert means[0] == pytest.approx(1.0)
    assert means[0] > means[1] > means[2]
    assert means[1] == pytest.approx(1 / (1 + 1 / 16), abs=0.03)  # 8 candidates, 2 verdicts a pair: variance 1 / 16


def test_a_consistent_but_wrong_judge_is_followed_more_closely_than_with_votes() -> None:
    rng = np.random.default_rng(4)
    strengths_GN = mixed_strengths(64, 8, equal_share=0.8, scale=2.0, rng=rng)
    score, votes = SimulatedJudge(kind="score", candidate_error=0.7), SimulatedJudge(candidate_error=0.7)
    found = [
        fidelity(
            rewards_of(
                *[play(RoundRobinTopology(), judge, strengths_N, rng, orders="both") for strengths_N in strengths_GN]
            ),
            strengths_GN,
        )
        for judge in (score, votes)
    ]
    assert found[0] > found[1] + 0.1


def test_the_unit_of_rewards() -> None:
    assert reward_unit(EmpiricalBayes(), "score") == "strength"
    assert reward_unit(EmpiricalBayes(), "hard") == "probability"
    assert reward_unit(WinRate(kind="win_rate"), "score") == "probability"
    assert reward_unit(RankQuantile(kind="rank_quantile"), "score") == "probability"


relaxed = settings(max_examples=60)


@relaxed
@given(log=match_logs("score"), factor=st.sampled_from([1e-3, 0.1, 7.0, 1e4]))
def test_multiplying_all_scores_changes_nothing(log: MatchLog, factor: float) -> None:
    (before,), (after,) = fit([log]), fit([scaled(log, factor)])
    assert np.array(after.rewards, dtype=float) == pytest.approx(
        np.array(before.rewards, dtype=float), abs=1e-6, nan_ok=True
    )


@relaxed
@given(data=st.data())
def test_candidate_permutation(data: st.DataObject) -> None:
    log = data.draw(match_logs("score"))
    new_slot = data.draw(st.permutations(range(log.num_candidates)))
    (before,), (after,) = rewards_of(log), rewards_of(relabelled(log, new_slot))
    assert after[new_slot] == pytest.approx(before, abs=1e-6, nan_ok=True)


@relaxed
@given(data=st.data())
def test_batch_order(data: st.DataObject) -> None:
    logs = data.draw(st.lists(match_logs("score"), min_size=2, max_size=5))
    order = data.draw(st.permutations(range(len(logs))))
    before, after = rewards_of(*logs), rewards_of(*[logs[i] for i in order])
    for place, i in enumerate(order):
        assert after[place] == pytest.approx(before[i], abs=1e-6, nan_ok=True)


@relaxed
@given(log=match_logs("score", symmetric=True))
def test_seats_do_not_matter_for_a_symmetric_judge(log: MatchLog) -> None:
    (before,), (after,) = rewards_of(log), rewards_of(seats_swapped(log))
    assert after == pytest.approx(before, abs=1e-9, nan_ok=True)


@relaxed
@given(log=match_logs("score"))
def test_rewards_are_centred_on_unit_scale(log: MatchLog) -> None:
    (rewards,) = rewards_of(log)
    scored = rewards[~np.isnan(rewards)]
    assume(len(scored) and np.abs(scored).max() > 0)
    assert scored.mean() == pytest.approx(0.0, abs=1e-9)
    assert np.mean(scored**2) == pytest.approx(1.0)
