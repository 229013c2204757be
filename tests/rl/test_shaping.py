"""What objectives ask of a step beyond advantages, as the loop gives it to the learner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rewards.errors import UserError
from rewards.types import GroupScore
from rl.events import StepDone
from rl.objectives import Disco
from rl.shaping import shape_groups
from tests.rl.fakes import FakeRun
from tests.rl.learner_data import make_groups, make_objective


def learned_advantages(run: FakeRun) -> list[list[float]]:
    """Of the first step's groups, one number per rollout."""
    return [[float(rollout.advantages[0]) for rollout in group.rollouts] for group in run.learner.learned[0]]


async def test_the_divergence_is_taken_off_before_rewards_are_normalised() -> None:
    # Rewards 0 and 1. The second rollout's two tokens lie 0.1 nats over the reference: 1 - 0.5 * 0.2 = 0.9. Centred
    # -0.45 and 0.45, over the perfect order's std 1/2.
    run = FakeRun()
    objective = replace(make_objective(kl_coef=0.5), kl_in="reward", kl_estimator="k1")
    await run.trainer(objective=objective).run()
    for advantages in learned_advantages(run):
        assert advantages == pytest.approx([-0.9, 0.9])
    first = next(event.metrics for event in run.events.seen if isinstance(event, StepDone))
    assert first["reward/kl"] == pytest.approx(0.1)
    assert first["reward/advantage_std"] == pytest.approx(0.9)
    assert first["reward/mean"] == pytest.approx(0.45)


async def test_the_rewards_on_disk_stay_raw() -> None:
    run = FakeRun()
    objective = replace(make_objective(kl_coef=0.5), kl_in="reward", kl_estimator="k1")
    await run.trainer(objective=objective).run()
    _, scores = run.store.load_groups(1)
    assert [score.rewards for score in scores] == [[0.0, 1.0], [0.0, 1.0]]


async def test_a_divergence_in_the_loss_leaves_rewards_alone() -> None:
    run = FakeRun()
    await run.trainer(objective=make_objective(kl_coef=0.5)).run()
    assert learned_advantages(run) == [[-1.0, 1.0], [-1.0, 1.0]]


async def test_the_focal_scale_is_on_the_advantages_not_on_the_rewards() -> None:
    run = FakeRun()
    run.sink.rewards = (0.5, 1.0)
    await run.trainer(objective=replace(make_objective(), focal_gamma=2.0)).run()
    # centred and scaled -1/2 and 1/2; mean 3/4, so (1/4)^2
    assert learned_advantages(run) == [[-1 / 32, 1 / 32]] * 2


async def test_pairs_reach_the_learner() -> None:
    run = FakeRun()
    await run.trainer(objective=replace(make_objective(), disco=Disco("log_l", 10.0, 0.0, 0.0))).run()
    for group in run.learner.learned[0]:
        np.testing.assert_array_equal(group.wins_GG, [[0.0, 0.0], [1.0, 0.0]])


def test_only_what_is_asked_for_is_done() -> None:
    groups = [replace(group, slots=(0, 1)) for group in make_groups([(1, [2, 2])], vocab_size=9)]
    (same,) = shape_groups(groups, [GroupScore([5.0, 7.0])], make_objective())
    assert same is groups[0]
    with pytest.raises(UserError, match="focal_gamma"):
        shape_groups(groups, [GroupScore([5.0, 7.0])], replace(make_objective(), focal_gamma=1.0))


def test_slots_left_out_keep_their_neighbours_in_place() -> None:
    groups = [replace(group, slots=(1, 3)) for group in make_groups([(1, [2, 2])], vocab_size=9)]
    objective = replace(make_objective(), disco=Disco("log_l", 10.0, 0.0, 0.0))
    (shaped,) = shape_groups(groups, [GroupScore([0.9, 0.8, None, 0.1])], objective)
    np.testing.assert_array_equal(shaped.wins_GG, [[0.0, 1.0], [0.0, 0.0]])


async def test_the_focal_scale_is_of_the_rewards_before_the_divergence_is_taken_off() -> None:
    # Rewards 1 and 0; the second pays 0.5 * 0.2: 0 - 0.1, which is no success rate. Centred 0.55 and -0.55, over 1/2.
    # The scale is that of the raw rewards, 1 - 1/2.
    run = FakeRun()
    run.sink.rewards = (1.0, 0.0)
    objective = replace(make_objective(kl_coef=0.5), kl_in="reward", kl_estimator="k1", focal_gamma=1.0)
    await run.trainer(objective=objective).run()
    for advantages in learned_advantages(run):
        assert advantages == pytest.approx([0.55, -0.55])
