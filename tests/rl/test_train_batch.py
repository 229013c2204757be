"""From scored groups to the learner's rows: who is left out, what the counters say, advantages by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rewards.errors import RunStopped
from rewards.types import GroupScore
from rl.config import AdvantageKind
from rl.objectives import Criteria
from rl.train_batch import TrainBatch, build_train_batch
from rollouts.types import Group
from tests.rl.fakes import make_group, make_rollout
from tests.rl.learner_data import make_objective


def build(
    groups: Sequence[Group],
    scores: Sequence[GroupScore],
    *,
    advantage: AdvantageKind = "mean",
    min_group: int = 2,
) -> TrainBatch:
    return build_train_batch(
        groups, scores, objective=replace(make_objective(), advantage=advantage), min_group=min_group
    )


def rewards(*values: float | None, reliability: float | None = None) -> GroupScore:
    return GroupScore(rewards=list(values), reliability=reliability)


def advantages(batch: TrainBatch) -> list[list[list[float]]]:
    """Per group, per rollout, per token."""
    return [[rollout.advantages.tolist() for rollout in group.rollouts] for group in batch.groups]


def test_rewards_become_advantages_of_every_token() -> None:
    batch = build([make_group("g", [1, 2, 3])], [rewards(0.0, 0.25, 1.25)])
    assert advantages(batch) == [[[-0.5], [-0.25] * 2, [0.75] * 3]]
    (group,) = batch.groups
    assert group.group_index == 0
    assert group.prompt_token_ids.tolist() == [7, 8, 9]
    second = group.rollouts[1]
    assert second.token_ids.tolist() == [10, 11]
    assert second.rollout_logprobs.tolist() == [-2, -2]
    assert second.segment_ids.tolist() == [-1, -1]
    assert [array.dtype for array in (second.advantages, second.token_ids, second.segment_ids)] == [
        np.float32,
        np.int32,
        np.int32,
    ]
    # (0.5^2 + 0.25^2 + 0.75^2) / 3 = 0.875 / 3
    assert batch.metrics["reward/advantage_std"] == pytest.approx(math.sqrt(0.875 / 3))


def test_a_perfect_order_of_two_has_advantages_of_one() -> None:
    # `constant` divides by sqrt((N+1) / (12 (N-1))) = 1/2 for N = 2.
    assert advantages(build([make_group("g", [1, 1])], [rewards(0.0, 1.0)], advantage="constant")) == [[[-1.0], [1.0]]]


def test_tokens_that_the_policy_did_not_choose_get_nothing() -> None:
    group = make_group("g", [4, 4])
    masked = make_rollout(group.key, 0, 4, loss_mask=[True, False, False, True])
    batch = build([replace(group, rollouts=(masked, group.rollouts[1]))], [rewards(1.0, 0.0)])
    assert advantages(batch) == [[[0.5, 0, 0, 0.5], [-0.5] * 4]]
    assert batch.groups[0].rollouts[0].loss_mask.tolist() == [True, False, False, True]


def test_lost_unscored_and_empty_answers_are_left_out() -> None:
    # Slot 1 was given up, slot 2 has no reward, slot 3 has no token; slot 3's reward still moves the mean: 1.5 / 3.
    batch = build([make_group("g", [1, None, 1, 0, 1])], [rewards(0.0, None, None, 0.5, 1.0)])
    assert [rollout.token_ids.tolist() for rollout in batch.groups[0].rollouts] == [[0], [40]]
    assert advantages(batch) == [[[-0.5], [0.5]]]
    counts = {name: batch.metrics[name] for name in ("reward/num_unscored", "reward/num_scored", "rollout/num_lost")}
    assert counts == {"reward/num_unscored": 2, "reward/num_scored": 3, "rollout/num_lost": 1}
    assert (batch.metrics["rollout/num_rollouts"], batch.metrics["rollout/num_tokens"]) == (4, 3)


def test_small_groups_are_dropped_counted_and_keep_their_neighbours_index() -> None:
    groups = [make_group(name, [1, 1, 1]) for name in "abc"]
    scores = [rewards(0.0, 1.0, None), rewards(0.0, 0.5, 1.0), rewards(0.5, 0.5, 0.5)]
    batch = build(groups, scores, min_group=3)
    assert [group.group_index for group in batch.groups] == [1, 2]
    assert batch.metrics["reward/num_groups_dropped"] == 1
    assert batch.metrics["reward/num_groups_zero_signal"] == 1
    assert advantages(batch) == [[[-0.5], [0], [0.5]], [[0], [0], [0]]]


def test_baselines_are_the_scores_own() -> None:
    score = GroupScore(rewards=[0.0, 1.0, 4.0, 8.0], baseline_ids=[0, 0, 1, 1])
    assert advantages(build([make_group("g", [1] * 4)], [score])) == [[[-0.5], [0.5], [-2], [2]]]


def test_reliability_is_the_mean_over_groups_that_have_one() -> None:
    groups = [make_group(name, [1, 1]) for name in "abc"]
    batch = build(groups, [rewards(0, 1, reliability=0.2), rewards(0, 1), rewards(0, 1, reliability=0.6)])
    assert batch.reliability == pytest.approx(0.4)
    assert batch.metrics["reward/reliability"] == batch.reliability
    without = build(groups[:1], [rewards(0, 1)])
    assert without.reliability is None
    assert "reward/reliability" not in without.metrics


def test_metrics_by_hand() -> None:
    second = make_group("b", [6, 4])
    cut = make_rollout(second.key, 0, 6, finish_reason="length")
    groups = [make_group("a", [2, 4]), replace(second, rollouts=(cut, second.rollouts[1]))]
    scores = [
        GroupScore(rewards=[0.0, 1.0], gate_failures={"length": (0,), "copy": (0, 1)}),
        replace(
            rewards(3.0, 7.0), gate_failures={"copy": (1,)}, gate_scores={"own": [0.5, None], "late": [None, None]}
        ),
    ]
    metrics = build(groups, scores).metrics
    assert metrics["reward/mean"] == pytest.approx(11 / 4)
    assert metrics["reward/group_std"] == pytest.approx((0.5 + 2.0) / 2)
    assert metrics["rollout/mean_tokens"] == 4
    assert metrics["rollout/truncated_fraction"] == 0.25
    assert metrics["reward/num_gate_failures"] == 4
    assert {name: value for name, value in metrics.items() if name.startswith("gate/")} == {
        "gate/copy/num_failed": 3,
        "gate/length/num_failed": 1,
        "gate/own/mean_score": 0.5,
    }


def test_a_step_without_any_reward_is_an_empty_batch() -> None:
    batch = build([make_group("g", [None, None])], [rewards(None, None)])
    assert batch.groups == ()
    assert batch.reliability is None
    assert batch.metrics["reward/num_unscored"] == 2
    assert "reward/mean" not in batch.metrics
    assert "rollout/mean_tokens" not in batch.metrics


def test_a_score_of_another_size_is_a_bug() -> None:
    with pytest.raises(ValueError, match="group g#0 has 3 slots and 2 rewards"):
        build([make_group("g", [1, 1, 1])], [rewards(0, 1)])
    with pytest.raises(ValueError, match="zip"):
        build([make_group("g", [1, 1])], [])


# --- criteria -----------------------------------------------------------------------------------------------------

MIXED = replace(make_objective(), advantage="mean", criteria=Criteria({"facts": 2.0, "depth": 1.0}, whiten=False))


def judged(**per_criterion: list[float | None]) -> GroupScore:
    return GroupScore(rewards=[0.1, 0.9, 0.5], per_criterion=per_criterion)


def test_criteria_are_learned_from_instead_of_the_reward() -> None:
    groups = [make_group("g", [1, 2, 1]), make_group("h", [1, 1, 1])]
    scores = [
        judged(facts=[1.0, 0.5, 0.0], depth=[0.0, 1.0, 0.5], style=[9.0, 0.0, 0.0]),
        judged(facts=[0.5, 0.5, None], depth=[None, 0.5, 0.5]),
    ]
    batch = build_train_batch(groups, scores, objective=MIXED, min_group=2)
    assert advantages(batch) == [[[0.5], [0.5] * 2, [-1.0]], [[0.0]] * 3]
    assert batch.metrics["reward/num_groups_zero_signal"] == 1
    assert batch.metrics["criterion/facts_zero_signal_rate"] == 0.5
    assert "criterion/style_reward" not in batch.metrics
    assert batch.metrics["reward/mean"] == pytest.approx(0.5)
    assert batch.warnings == ()


def test_a_criterion_that_nobody_speaks_of_is_a_warning_and_all_of_them_a_stop() -> None:
    groups = [make_group("g", [1, 1, 1])]
    batch = build_train_batch(groups, [judged(depth=[0.0, 0.5, 1.0])], objective=MIXED, min_group=2)
    assert batch.warnings == ("criterion facts: no verdict of the step speaks of it; it speaks of depth",)
    cases: list[tuple[dict[str, list[float | None]], str]] = [
        ({"fact": [0.0, 0.5, 1.0]}, "it speaks of fact"),
        ({}, "it speaks of no criteria"),
    ]
    for said, names in cases:
        with pytest.raises(RunStopped, match=rf"weights names facts, depth, and no verdict .*: {names}; name those"):
            build_train_batch(groups, [judged(**said)], objective=MIXED, min_group=2)
