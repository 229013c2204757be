"""Score verdicts of a judge whose own error is known: shrinkage, win shares, and finding the error from repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from rewards.aggregator_config import EmpiricalBayes
from rewards.aggregators import build_aggregator, reward_unit
from rewards.aggregators.score_shrinkage import MULTIPLES, shrink, win_shares
from rewards.diagnostics.score_error import score_error
from rewards.errors import UserError
from rewards.simulate import SimulatedJudge, fidelity, mixed_strengths, play
from rewards.topologies.round_robin import RoundRobinTopology
from rewards.types import MatchLog, Strengths
from tests.rewards.logs import log_of
from tests.rewards.test_score_strengths import scaled

JUDGE = SimulatedJudge(kind="score", candidate_error=0.7, noise=0.5)
EVEN = np.full(len(MULTIPLES), 0.5)


def batch(judge: SimulatedJudge, *, groups: int = 64, size: int = 8, equal: float = 0.5, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    strengths_GN = mixed_strengths(groups, size, equal_share=equal, scale=2.0, rng=rng)
    logs = [play(RoundRobinTopology(), judge, one, rng, orders="both") for one in strengths_GN]
    return strengths_GN, logs


def fit(logs: list[MatchLog], **options: Any) -> list[Strengths]:
    return build_aggregator(EmpiricalBayes(**options)).fit(logs)[0]


def rewards_of(logs: list[MatchLog], **options: Any) -> list[np.ndarray]:
    return [np.array(one.rewards, dtype=float) for one in fit(logs, **options)]


def test_one_group_by_hand() -> None:
    # t = 1 and no verdict noise: x = (3, -3), one degree of freedom, sum of squares 18.
    spread = np.array(MULTIPLES) ** 2
    evidence = -0.5 * np.log(spread + 1.0) - 18.0 / (2.0 * (spread + 1.0))
    share = np.exp(evidence - evidence.max())
    counts = np.full(len(MULTIPLES), 1e9)  # so much evidence of even weights that the batch teaches nothing
    share /= share.sum()
    factor = spread / (spread + 1.0)
    ((shrunk,), seen) = shrink([np.array([3.0, -3.0])], [0.0], 1.0, counts)
    assert shrunk.mean_N == pytest.approx(np.array([3.0, -3.0]) * (share @ factor))
    doubt = share @ factor**2 - (share @ factor) ** 2
    assert shrunk.variance == pytest.approx((share @ factor) / 2.0 + doubt * 9.0)
    assert seen == pytest.approx(share)


def test_win_shares_are_expected_normal_wins() -> None:
    found = win_shares(np.array([0.8, -0.8]), 0.3, 1.2)
    expected, _ = quad(lambda d: norm.pdf(d, 1.6, np.sqrt(0.6)) * norm.cdf(d / 1.8), -8, 10)
    assert found == pytest.approx([expected, 1.0 - expected], abs=0.01)
    assert win_shares(np.zeros(5), 0.0, 1.0) == pytest.approx([0.5] * 5)


@pytest.mark.parametrize("rewards", ["strength", "win_share"])
def test_multiplying_scores_and_error_changes_nothing(rewards: str) -> None:
    _, logs = batch(JUDGE, groups=6)
    before = rewards_of(logs, score_error=0.7, score_rewards=rewards)
    after = rewards_of([scaled(log, 40.0) for log in logs], score_error=28.0, score_rewards=rewards)
    assert np.concatenate(after) == pytest.approx(np.concatenate(before))


@pytest.mark.parametrize("unit", [0.05, 20.0])
def test_a_scale_alone_changes_no_reward_where_no_error_is_given(unit: float) -> None:
    _, logs = batch(JUDGE, groups=6)
    before = rewards_of(logs, score_rewards="win_share")
    assert np.concatenate(rewards_of([scaled(log, unit) for log in logs], score_rewards="win_share")) == pytest.approx(
        np.concatenate(before)
    )


def test_errors_do_not_grow_to_full_size() -> None:
    _, logs = batch(JUDGE, equal=1.0)
    plain = np.concatenate(rewards_of(logs))
    known = np.concatenate(rewards_of(logs, score_error=0.7))
    assert plain.std() == pytest.approx(1.0)
    assert known.std() < 0.25
    reliabilities = [one.reliability for one in fit(logs, score_error=0.7)]
    assert np.mean([r for r in reliabilities if r is not None]) < 0.2


@pytest.mark.parametrize(("equal", "gain"), [(0.5, 0.02), (0.8, 0.08), (0.0, -0.01)])
def test_a_known_error_helps_where_groups_are_equal_and_costs_nothing_where_none_is(equal: float, gain: float) -> None:
    truth, logs = batch(SimulatedJudge(kind="score", candidate_error=0.7), equal=equal)
    plain = fidelity(rewards_of(logs), truth)
    assert fidelity(rewards_of(logs, score_error=0.7), truth) > plain + gain
    assert fidelity(rewards_of(logs, score_error=0.7, score_rewards="win_share"), truth) > plain + gain


def test_the_multiples_are_learned_and_carried() -> None:
    _, logs = batch(JUDGE)
    aggregator = build_aggregator(EmpiricalBayes(score_error=0.7))
    _, prior = aggregator.fit(logs)
    assert sum(prior["multiple_groups"]) == pytest.approx(0.9 * 64)
    alone = aggregator.fit(logs[:1], prior)[0][0].rewards
    assert alone != aggregator.fit(logs[:1])[0][0].rewards


def test_a_group_without_a_verdict_is_unscored_and_teaches_nothing() -> None:
    logs = [log_of([(0, 1, 2.0)], 3, "score"), log_of([], 3, "score")]
    (heard, silent), prior = build_aggregator(EmpiricalBayes(score_error=0.5)).fit(logs)
    assert silent.rewards == [None] * 3
    assert heard.rewards[2] is None
    assert sum(prior["multiple_groups"]) == pytest.approx(0.9)


def test_the_unit_follows_what_is_paid() -> None:
    assert reward_unit(EmpiricalBayes(score_rewards="win_share"), "score") == "probability"
    assert reward_unit(EmpiricalBayes(score_error=1.0), "score") == "strength"


def repeats(judge: SimulatedJudge, num_groups: int, seed: int = 1) -> list[list[MatchLog]]:
    rng = np.random.default_rng(seed)
    strengths_GN = 2.0 * rng.standard_normal((num_groups, 8))
    return [[play(RoundRobinTopology(), judge, one, rng, orders="both") for _ in range(3)] for one in strengths_GN]


def test_the_error_is_found_from_repeats() -> None:
    judge = SimulatedJudge(kind="score", candidate_error=0.7, noise=1.0, unit=10.0)
    assert score_error(repeats(judge, 60)) == pytest.approx(7.0, rel=0.06)


def test_noise_alone_is_no_error() -> None:
    assert score_error(repeats(SimulatedJudge(kind="score", noise=1.0), 60)) < 0.15


def test_two_repeats_by_hand() -> None:
    # Strengths (1, -1) and (2, -2): variances 1/2 each, one degree of freedom.
    logs = [log_of([(0, 1, 2.0)], 2, "score", symmetric=True), log_of([(0, 1, 4.0)], 2, "score", symmetric=True)]
    assert score_error([logs]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ([log_of([(0, 1, 2.0)], 2, "score")], "at least twice"),
        ([log_of([(0, 1, 1.0)], 2), log_of([(0, 1, 1.0)], 2)], "hard verdicts"),
        ([log_of([(0, 1, 1.0)], 3, "score"), log_of([(0, 1, 1.0)], 3, "score")], "without a verdict"),
    ],
)
def test_repeats_that_say_nothing_are_refused(logs: list[MatchLog], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_error([logs])
