"""Groups that teach nothing: told from the others, refilled in the same step, counted, and the same after a kill."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from rewards.types import GroupScore
from rl.config import DynamicSamplingConfig
from rl.dynamic_sampling import refill_metrics, teaching
from tests.rl.fakes import RL, FakeRun
from tests.rl.learner_data import make_objective
from tests.rl.test_trainer import notes, steps_done

CONFIG = DynamicSamplingConfig(min_reliability=0.3, max_rounds=2)
REFILLING = RL.model_copy(update={"dynamic_sampling": CONFIG})


@pytest.mark.parametrize(
    ("score", "teaches"),
    [
        (GroupScore(rewards=[0.0, 1.0]), True),  # no reliability: held to its spread
        (GroupScore(rewards=[0.4, 0.4, None]), False),
        (GroupScore(rewards=[0.4, 0.4 + 1e-9]), False),  # equal up to rounding, as the advantages see it
        (GroupScore(rewards=[0.0, None]), False),  # too few scored
        (GroupScore(rewards=[None, None]), False),
        (GroupScore(rewards=[0.0, 1.0], reliability=0.3), True),
        (GroupScore(rewards=[0.0, 1.0], reliability=0.29), False),  # differ, but by noise
        (GroupScore(rewards=[0.5, 0.5], reliability=1.0), False),
        (GroupScore(rewards=[0.0, 0.0, 1.0, 1.0], baseline_ids=[0, 0, 1, 1]), False),  # level under both baselines
    ],
)
def test_a_group_teaches_by_spread_and_reliability(score: GroupScore, teaches: bool) -> None:
    assert teaching([score], CONFIG, min_group=2) == [teaches]


@pytest.mark.parametrize(
    ("score", "whole", "by_segment"),
    [
        (GroupScore(rewards=[0.9, 0.9], segment_rewards={"slate": [0.5, 0.4], "rank": [0.4, 0.5]}), False, True),
        (GroupScore(rewards=[1.0, 1.0], segment_rewards={"slate": [1.0, 1.0], "rank": [0.1, 0.2]}), False, True),
        (GroupScore(rewards=[1.0, 0.9], segment_rewards={"slate": [1.0, 1.0], "rank": [0.2, 0.2]}), True, False),
        (GroupScore(rewards=[1.0, 0.9], segment_rewards={"slate": [1.0, 1.0], "rank": [0.2, None]}), True, False),
        (GroupScore(rewards=[0.0, 1.0]), True, True),  # without segments: for the batch to refuse
    ],
)
def test_a_group_is_held_to_the_rewards_that_the_objective_learns_from(
    score: GroupScore, whole: bool, by_segment: bool
) -> None:
    assert teaching([score], CONFIG, min_group=2) == [whole]
    assert teaching([score], CONFIG, min_group=2, uses_segments=True) == [by_segment]


async def test_segments_that_the_objective_does_not_learn_from_keep_no_group() -> None:
    run = FakeRun()
    run.sink.rewards, run.sink.segment_rewards = (0.9, 0.9), {"slate": [0.5, 0.4], "rank": [0.4, 0.5]}
    await run.trainer(rl=REFILLING.model_copy(update={"num_steps": 1})).run()
    assert steps_done(run)[1].metrics["reward/num_groups_refilled"] == 4
    assert notes(run) == [("warning", "step 1: no update, no group teaches anything")]


async def test_segments_that_the_objective_learns_from_keep_theirs() -> None:
    run = FakeRun()
    run.sink.rewards, run.sink.segment_rewards = (0.9, 0.9), {"slate": [0.5, 0.4], "rank": [0.4, 0.5]}
    trainer = run.trainer(
        rl=REFILLING.model_copy(update={"num_steps": 1}), objective=replace(make_objective(), uses_segments=True)
    )
    groups = await trainer._source.get(1, lambda phase, step: None)
    assert groups.kept == [True, True]


def test_criteria_are_held_to_their_spread_instead_of_the_reward() -> None:
    level = GroupScore(rewards=[0.0, 1.0], per_criterion={"facts": [0.5, 0.5], "style": [0.0, 1.0]})
    apart = GroupScore(rewards=[0.5, 0.5], per_criterion={"facts": [0.5, 0.5], "depth": [0.4, 0.5]})
    assert teaching([level, apart], CONFIG, min_group=2, criteria=["facts", "depth"]) == [False, True]
    assert teaching([level, apart], CONFIG, min_group=2) == [True, False]


def test_one_group_says_nothing_about_another() -> None:
    scores = [GroupScore(rewards=[0.0, 1e6]), GroupScore(rewards=[0.0, 1e-3]), GroupScore(rewards=[2.0, 2.0])]
    assert teaching(scores, CONFIG, min_group=2) == [True, True, False]
    assert teaching(scores, CONFIG, min_group=3) == [False] * 3


def test_places_are_counted() -> None:
    counts = refill_metrics([True, False, False, True, False], num_wanted=3)
    assert list(counts.values()) == [2, 2, 1]  # kept, sampled in the place of others, still empty


async def test_a_step_is_refilled_before_it_is_learned_from() -> None:
    run = FakeRun()
    run.sink.unreliable = {"step1-0", "step1-refill1-0"}
    await run.trainer(rl=REFILLING.model_copy(update={"num_steps": 1})).run()
    start = run.log.index("sample step1")
    assert run.log[start : start + 9] == [*["sample step1", "judge training"] * 3, "save groups 1", "learn", "sync 1"]
    groups, scores, prior = run.store.groups[1]
    assert [group.key.group_id for group in groups] == ["step1-0", "step1-1", "step1-refill1-0", "step1-refill2-0"]
    assert len(scores) == len(run.store.matches[1]) == 4  # those set aside were asked about, too
    assert prior == {"batches": 3}
    (learned,) = run.learner.learned
    assert [group.group_index for group in learned] == [0, 1]
    metrics = steps_done(run)[1].metrics
    assert [metrics[f"reward/num_groups_{what}"] for what in ("kept", "refilled", "given_up")] == [2, 2, 0]
    assert metrics["judge/num_calls"] == 4 * 3
    assert run.learner.saved["1"]["judge_calls"] == 4 * 3 + 2 * 3  # and the last evaluation's


async def test_after_the_last_refill_the_step_makes_do_with_what_there_is() -> None:
    run = FakeRun()
    run.sink.unreliable = {"step1-0", "step1-refill1-0", "step1-refill2-0"}
    await run.trainer(rl=REFILLING).run()
    assert [len(learned) for learned in run.learner.learned] == [1, 2]
    assert [done.metrics["reward/num_groups_given_up"] for done in steps_done(run).values()] == [1, 0]
    assert run.log.count("sample step1") == 3


async def test_a_step_that_nothing_was_learned_in_is_skipped() -> None:
    run = FakeRun()
    run.sink.reliability = 0.0
    await run.trainer(rl=REFILLING.model_copy(update={"num_steps": 1})).run()
    assert "learn" not in run.log
    assert notes(run) == [("warning", "step 1: no update, no group teaches anything")]
    assert steps_done(run)[1].metrics["reward/num_groups_refilled"] == 4


async def test_no_refill_is_sampled_where_no_judge_call_is_left_for_it() -> None:
    run = FakeRun()
    run.sink.unreliable, run.sink.refills_left = {"step1-0"}, 0
    await run.trainer(rl=REFILLING).run()
    assert run.log.count("sample step1") == 1
    assert len(run.learner.learned[0]) == 1


async def test_without_it_every_group_is_learned_from_and_nothing_is_counted() -> None:
    run = FakeRun()
    run.sink.unreliable = {"step1-0"}
    await run.trainer().run()
    assert len(run.learner.learned[0]) == 2
    assert "reward/num_groups_kept" not in steps_done(run)[1].metrics


async def test_a_killed_run_keeps_the_same_groups_of_those_on_disk() -> None:
    before = FakeRun()
    before.sink.unreliable = {"step1-0"}
    await before.trainer(rl=REFILLING.model_copy(update={"num_steps": 1})).run()
    again = FakeRun()
    again.store.start_answers, again.store.groups = before.store.start_answers, before.store.groups
    await again.trainer(rl=REFILLING.model_copy(update={"num_steps": 1})).run()
    assert "sample step1" not in again.log
    rows = [
        [[rollout.token_ids.tolist() for rollout in group.rollouts] for group in run.learner.learned[0]]
        for run in (before, again)
    ]
    assert rows[0] == rows[1]
    counts = [
        {name: value for name, value in steps_done(run)[1].metrics.items() if "num_groups" in name}
        for run in (before, again)
    ]
    assert counts[0] == counts[1]


async def test_a_stop_during_a_refill_leaves_the_priors_of_the_finished_step() -> None:
    """The refilled step is sampled again whole, so what its first groups taught the aggregator must not stay."""
    run = FakeRun()
    run.sink.unreliable = {"step2-0"}
    trainer = run.trainer(rl=REFILLING.model_copy(update={"num_steps": 9}))
    sampled = run.engines.sample

    async def sample(requests: Any, sink: Any = None) -> Any:
        if requests[0].key.group_id.startswith("step2-refill"):
            assert trainer.request_stop()
            await asyncio.sleep(60)
        return await sampled(requests, sink)

    run.engines.sample = sample  # type: ignore[method-assign]
    trainer.rl = trainer.rl.model_copy(update={"checkpoint": trainer.rl.checkpoint.model_copy(update={"every": 5})})
    with pytest.raises(asyncio.CancelledError):
        await trainer.run()
    assert run.sink.prior == {"batches": 2}
    assert run.learner.saved["1"]["prior"] == {"batches": 1}
    assert sorted(run.store.groups) == [1]
