from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rewards.types import GroupScore
from rl.kl import kl_estimate
from rl.kl_reward import kl_sums, take_off_rewards
from rl.objective_config import KlEstimator
from tests.rl.learner_data import make_groups


def test_sums_are_over_loss_tokens_by_slot() -> None:
    (group,) = make_groups([(1, [4, 2])], vocab_size=9, masked=True)  # of 4 tokens the 2 in the middle do not count
    object.__setattr__(group, "slots", (0, 3))
    policy = [np.array([-1.0, 9.0, 9.0, -2.0]), np.array([-1.0, -1.0])]
    reference = [np.array([-1.5, 0.0, 0.0, -2.25]), np.array([-1.0, -0.5])]
    assert kl_sums([group], policy, reference, "k1") == {(0, 0): 0.75, (0, 3): -0.5}


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_rewards_divergence_is_the_losss(estimator: KlEstimator) -> None:
    (group,) = make_groups([(1, [5])], vocab_size=9)
    object.__setattr__(group, "slots", (0,))
    rng = np.random.default_rng(0)
    policy, reference = rng.normal(size=(2, 5))
    expected = kl_estimate(torch.tensor(policy), torch.tensor(reference), estimator).sum().item()
    assert kl_sums([group], [policy], [reference], estimator)[0, 0] == pytest.approx(expected)


def test_it_is_taken_off_before_anything_is_normalised() -> None:
    score = GroupScore([1.0, None, 0.5])
    (taken,) = take_off_rewards([score], {(0, 0): 2.0, (0, 2): -1.0}, 0.1)
    assert taken.rewards == [pytest.approx(0.8), None, pytest.approx(0.6)]
    assert score.rewards == [1.0, None, 0.5]
    assert math.isclose(taken.rewards[0] or 0, 0.8)
