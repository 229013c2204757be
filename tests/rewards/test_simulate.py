"""The simulator is the measuring stick, so it is measured too."""

from __future__ import annotations

import numpy as np
import pytest

from rewards.simulate import SimulatedJudge, fidelity, mixed_strengths, play, true_rewards
from rewards.topologies.round_robin import RoundRobinTopology


def test_true_rewards_by_hand() -> None:
    # sigma(ln 3) = 3/4 against the second, sigma(ln 9) = 9/10 against the third.
    strengths_N = np.log(np.array([9.0, 3.0, 1.0]))
    assert true_rewards(strengths_N) == pytest.approx([(0.75 + 0.9) / 2, (0.25 + 0.75) / 2, (0.1 + 0.25) / 2])


def test_mixed_batches_have_about_the_asked_share_of_equal_groups() -> None:
    strengths_GN = mixed_strengths(2000, 4, equal_share=0.8, scale=2.0, rng=np.random.default_rng(0))
    equal_G = (strengths_GN == 0.0).all(1)
    assert equal_G.mean() == pytest.approx(0.8, abs=0.03)
    assert strengths_GN[~equal_G].std() == pytest.approx(2.0, rel=0.05)


def test_judges_lean_as_they_are_told() -> None:
    rng = np.random.default_rng(1)
    judge = SimulatedJudge(seat_bias=1.0, failure_rate=0.25)
    verdicts = [judge.call(np.zeros((2, 2)), 0, 1, rng).verdict for _ in range(4000)]
    values = [verdict.value for verdict in verdicts if verdict.value is not None]
    assert len(values) / 4000 == pytest.approx(0.75, abs=0.03)
    assert np.mean(values) == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.03)


def test_a_perfect_score_judge_is_perfectly_faithful_to_a_linear_truth() -> None:
    rng = np.random.default_rng(2)
    strengths_N = 0.01 * rng.standard_normal(6)  # small, so that win probabilities are linear in strengths
    log = play(RoundRobinTopology(), SimulatedJudge(kind="score", unit=40.0), strengths_N, rng, orders="both")
    assert all(len(match.calls) == 2 for match in log.matches)
    assert fidelity([strengths_N], strengths_N[None]) == pytest.approx(1.0, abs=1e-4)
    assert fidelity([-strengths_N], strengths_N[None]) == pytest.approx(-1.0, abs=1e-4)
    assert fidelity([np.ones(6)], strengths_N[None]) == 0.0


def test_equal_generators_play_equal_tournaments() -> None:
    logs = [
        play(RoundRobinTopology(), SimulatedJudge(), np.arange(5).astype(np.float64), np.random.default_rng(seed))
        for seed in (3, 3, 4)
    ]
    assert logs[0] == logs[1] != logs[2]
