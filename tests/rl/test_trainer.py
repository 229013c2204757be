"""The loop over fakes: what happens in which order, what stops it, what a resumed run does again and what not."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from rewards.alarms import JudgeAlarm
from rewards.errors import BatchRejected, RunStopped
from rl.alarms import check_gap, check_versions
from rl.config import CheckpointConfig
from rl.events import Note, PhaseStarted, RunDone, StepDone
from rl.objectives import Criteria
from rollouts.types import VersionSpan
from tests.rl.fakes import EVALUATION, RL, FakeRun, make_group
from tests.rl.learner_data import make_objective

STEP_1 = ["sample step1", "judge training", "save groups 1", "learn", "sync 1", "save checkpoint 1", "keep 2"]
STEP_2 = [
    *["sample step2", "judge training", "save groups 2", "learn", "sync 2"],
    *["sample heldout2", "judge heldout", "save evaluation 2", "save checkpoint 2", "keep 2"],
]


async def killed_after_step_1() -> FakeRun:
    """A run as a driver finds it that was killed after the first checkpoint."""
    before = FakeRun()
    await before.trainer(rl=RL.model_copy(update={"num_steps": 1})).run()
    run = FakeRun()
    run.store.start_answers = before.store.start_answers
    run.store.groups = before.store.groups
    run.learner.saved = before.learner.saved
    return run


def steps_done(run: FakeRun) -> dict[int, StepDone]:
    return {event.step: event for event in run.events.seen if isinstance(event, StepDone)}


def notes(run: FakeRun) -> list[tuple[str, str]]:
    return [(event.level, event.text) for event in run.events.seen if isinstance(event, Note)]


# --- a run that goes well ----------------------------------------------------------------------------------------


async def test_the_verbs_come_in_order() -> None:
    run = FakeRun()
    await run.trainer().run()
    assert run.log == ["sample heldout0", "save start answers", *STEP_1, *STEP_2, "save summary"]


async def test_each_phase_is_announced_in_order() -> None:
    run = FakeRun()
    await run.trainer().run()
    phases = [(event.step, event.phase) for event in run.events.seen if isinstance(event, PhaseStarted)]
    step = ["sample", "judge", "save", "learn", "sync"]
    assert phases == [
        (0, "evaluate"),
        *((1, phase) for phase in [*step, "save"]),
        *((2, phase) for phase in [*step, "evaluate", "save"]),
        (2, "evaluate"),
    ]


async def test_a_step_reports_the_metrics_of_all_its_phases() -> None:
    run = FakeRun()
    await run.trainer().run()
    first, last = steps_done(run)[1].metrics, steps_done(run)[2].metrics
    assert (first["rl/loss"], first["rl/skipped"], first["judge/num_calls"], first["sync/bytes"]) == (0.5, 0, 6, 8)
    assert {"time/sample_s", "time/learn_s", "time/step_s", "judge/calls_per_s"} <= first.keys()
    assert "heldout/win_rate" not in first
    assert last["heldout/win_rate"] == 1.0


async def test_a_steps_row_is_there_before_its_checkpoint_is() -> None:
    """A run that is killed between the two has lost nothing: a resumed run drops the row, and makes the step again."""
    run = FakeRun()

    def killed(keep: int, spared: Any) -> Any:
        raise RunStopped("killed while old checkpoints are deleted")

    run.store.prune_checkpoints = killed  # type: ignore[method-assign]
    with pytest.raises(RunStopped):
        await run.trainer().run()
    assert sorted(run.learner.saved) == ["1"]
    assert sorted(steps_done(run)) == [1]

    full = FakeRun()
    handle = full.events.handle

    def handle_but_no_row(event: Any) -> None:
        if isinstance(event, StepDone):
            raise RunStopped("disk full")
        handle(event)

    full.events.handle = handle_but_no_row  # type: ignore[method-assign]
    with pytest.raises(RunStopped):
        await full.trainer().run()
    assert full.learner.saved == {}


async def test_the_seconds_of_a_checkpoint_are_in_the_next_row_and_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = FakeRun()
    now = [0.0]
    monkeypatch.setattr("rl.clock.time", SimpleNamespace(monotonic=lambda: now[0]))
    save, learn = run.learner.save, run.learner.step

    async def save_in_5_s(path: Any, extra: Any) -> None:
        now[0] += 5.0
        await save(path, extra)

    async def learn_in_1_s(groups: Any) -> Any:
        now[0] += 1.0
        return await learn(groups)

    run.learner.save, run.learner.step = save_in_5_s, learn_in_1_s  # type: ignore[method-assign]
    summary = await run.trainer().run()
    rows = [steps_done(run)[step].metrics for step in (1, 2)]
    assert [(row["time/learn_s"], row["time/save_s"], row["time/step_s"]) for row in rows] == [(1, 0, 1), (1, 5, 6)]
    totals = [run.learner.saved[step]["totals"] for step in ("1", "2")] + [summary["seconds_by_phase"]]
    assert [(seconds["learn"], seconds["save"]) for seconds in totals] == [(1, 0), (2, 5), (2, 10)]


async def test_what_is_not_due_is_left_out_but_the_last_step_is_always_evaluated_and_saved() -> None:
    run = FakeRun()
    rl = RL.model_copy(update={"num_steps": 5, "checkpoint": CheckpointConfig(every=3, keep=1)})
    await run.trainer(rl=rl, evaluation=EVALUATION.model_copy(update={"every": 2})).run()
    assert [line for line in run.log if line.startswith("save checkpoint")] == [
        "save checkpoint 3",
        "save checkpoint 5",
    ]
    assert sorted(run.store.evaluations) == [2, 4, 5]
    assert run.log.count("keep 1") == 2
    assert run.learner.verified == {1: False, 2: True, 3: False, 4: True, 5: False}


async def test_the_summary_counts_calls_and_names_the_result() -> None:
    run = FakeRun()
    summary = await run.trainer(start_s=2.0).run()
    assert run.store.summary is summary
    assert run.events.seen[-1] == RunDone(summary)
    assert (summary["steps"], summary["final_checkpoint"]) == (2, "checkpoints/step_2")
    assert summary["heldout"] == {
        "win_rate": 1.0,
        "ci95": [1.0, 1.0],
        "num_prompts": 2,
        "num_unscored": 0,
        "num_pairs": 2,
        "opponent": "starting model",
        "judged": {"win_rate": 1.0, "ci95": [1.0, 1.0], "num_prompts": 2, "num_pairs": 2},
        "figures": {"reward": {"before": 0.0, "after": 1.0}},
    }
    assert summary["mean_length"] == {"before": 2.0, "after": 2.0}
    assert summary["judge_calls"] == 2 * 2 * 3 + 2 * 3  # two groups of two steps and two held-out pairs, 3 calls each
    assert "audit" not in summary
    assert summary["seconds_by_phase"].keys() == {"start", "sample", "judge", "learn", "sync", "evaluate", "save"}
    assert summary["seconds_by_phase"]["start"] == 2.0


async def test_the_audit_asks_another_judge_about_the_same_pairs() -> None:
    run = FakeRun()
    run.audit_sink.rewards = (1.0, 0.0)
    summary = await run.trainer(audit=run.audit).run()
    assert run.log[-4:] == ["open audit", "judge audit", "close audit", "save summary"]
    assert summary["audit"]["win_rate"] == 0.0
    assert summary["audit"]["agreement"] == {"share": 0.0, "kappa": 0.0, "num_pairs": 2}
    assert summary["audit"]["judge_calls"] == 6
    assert summary["judge_calls"] == 12 + 6 + 6


async def test_a_heldout_prompt_that_lost_its_answer_counts_as_unscored() -> None:
    run = FakeRun()
    run.engines.lost = {("heldout2-1", 0)}
    heldout = (await run.trainer(audit=run.audit).run())["heldout"]
    assert (heldout["num_prompts"], heldout["num_unscored"], heldout["num_pairs"]) == (1, 1, 1)


async def test_colocated_engines_sleep_while_the_learner_works() -> None:
    run = FakeRun()
    await run.trainer(rl=RL.model_copy(update={"num_steps": 1}), colocated=True).run()
    start = run.log.index("save groups 1") + 1
    assert run.log[start : start + 5] == ["sleep", "learn", "wake weights", "sync 1", "wake kv_cache"]
    assert [run.log.count(line) for line in ("sleep", "wake weights", "wake kv_cache")] == [1, 1, 1]


async def test_colocated_engines_that_did_not_sleep_are_not_woken() -> None:
    run = FakeRun()
    run.sink.reliability = 0.0
    await run.trainer(rl=RL.model_copy(update={"min_batch_reliability": 0.1}), colocated=True).run()
    assert [line for line in run.log if line.startswith(("sleep", "wake"))] == []


# --- a requested stop ----------------------------------------------------------------------------------------------


async def test_a_stop_while_sampling_saves_the_step_before_and_ends_the_run() -> None:
    run = FakeRun()
    trainer = run.trainer(rl=RL.model_copy(update={"num_steps": 9, "checkpoint": CheckpointConfig(every=5, keep=1)}))
    sampled = run.engines.sample

    async def sample(requests: Any, sink: Any = None) -> Any:
        if requests[0].key.group_id.startswith("step3-"):
            assert trainer.request_stop()
            await asyncio.sleep(60)
        return await sampled(requests, sink)

    run.engines.sample = sample  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await trainer.run()
    assert [line for line in run.log if line.startswith("save checkpoint")] == ["save checkpoint 2"]
    assert run.log.count("learn") == 2
    assert sorted(steps_done(run)) == [1, 2]


async def test_a_stop_while_learning_finishes_the_step_and_saves_it() -> None:
    run = FakeRun()
    trainer = run.trainer(rl=RL.model_copy(update={"num_steps": 9, "checkpoint": CheckpointConfig(every=5, keep=1)}))
    learned = run.learner.step

    async def step(groups: Any) -> Any:
        if run.log.count("learn") == 1:
            assert trainer.request_stop()
        return await learned(groups)

    run.learner.step = step  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await trainer.run()
    assert [line for line in run.log if line.startswith("save checkpoint")] == ["save checkpoint 2"]
    assert sorted(steps_done(run)) == [1, 2]


@pytest.mark.parametrize("when", ["learn", "heldout1", "heldout2"])
async def test_a_stop_does_not_wait_for_an_evaluation(when: str) -> None:
    """Asked to stop before one begins, in the middle of one, and in that of the last step, which is made up for."""
    run = FakeRun()
    trainer = run.trainer(evaluation=EVALUATION.model_copy(update={"every": 1}))
    sampled, learned = run.engines.sample, run.learner.step

    async def sample(requests: Any, sink: Any = None) -> Any:
        if requests[0].key.group_id.startswith(f"{when}-"):
            assert trainer.request_stop()
            await asyncio.sleep(60)
        return await sampled(requests, sink)

    async def step(groups: Any) -> Any:
        if when == "learn":
            assert trainer.request_stop()
        return await learned(groups)

    run.engines.sample, run.learner.step = sample, step  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await trainer.run()
    last = 2 if when == "heldout2" else 1
    assert sorted(steps_done(run)) == list(range(1, last + 1))
    assert "heldout/win_rate" not in steps_done(run)[last].metrics
    assert f"save checkpoint {last}" in run.log
    assert notes(run) == [("warning", f"step {last}: not evaluated, the run was asked to stop")]
    assert asyncio.all_tasks() == {asyncio.current_task()}

    run.engines.sample, run.learner.step = sampled, learned  # type: ignore[method-assign]
    again = run.trainer()
    again.restore(run.learner.saved[str(last)])
    assert (await again.run())["heldout"]["win_rate"] == 1.0
    assert 2 in run.store.evaluations


async def test_a_second_signal_ends_an_evaluation_and_with_it_the_run() -> None:
    run = FakeRun()
    trainer = run.trainer(evaluation=EVALUATION.model_copy(update={"every": 1}))
    sampled = run.engines.sample

    async def sample(requests: Any, sink: Any = None) -> Any:
        if requests[0].key.group_id.startswith("heldout1-"):
            assert trainer.request_stop()
            running.cancel()
            await asyncio.sleep(60)
        return await sampled(requests, sink)

    run.engines.sample = sample  # type: ignore[method-assign]
    running = asyncio.create_task(trainer.run())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert run.learner.saved == {}


async def test_a_checkpoint_that_is_there_is_not_written_again_and_step_0_is_never_saved() -> None:
    for at_step, saved in ((1, []), (2, ["save checkpoint 1"])):
        run = FakeRun()
        trainer = run.trainer()
        sampled = run.engines.sample

        async def sample(
            requests: Any, sink: Any = None, *, at_step: int = at_step, trainer: Any = trainer, sampled: Any = sampled
        ) -> Any:
            if requests[0].key.group_id.startswith(f"step{at_step}-"):
                assert trainer.request_stop()
                await asyncio.sleep(60)
            return await sampled(requests, sink)

        run.engines.sample = sample  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await trainer.run()
        assert [line for line in run.log if line.startswith("save checkpoint")] == saved


async def test_before_the_first_step_there_is_nothing_to_save() -> None:
    assert not FakeRun().trainer().request_stop()


# --- no update -----------------------------------------------------------------------------------------------------


async def test_an_unreliable_batch_is_skipped_and_the_run_goes_on() -> None:
    run = FakeRun()
    run.sink.reliability = 0.09
    await run.trainer(rl=RL.model_copy(update={"min_batch_reliability": 0.1})).run()
    assert "learn" not in run.log
    assert [line for line in run.log if line.startswith("sync")] == ["sync 1", "sync 2"]  # engines move on all the same
    assert [done.metrics["rl/skipped"] for done in steps_done(run).values()] == [1.0, 1.0]
    assert notes(run)[0] == ("warning", "step 1: no update, batch reliability 0.090 is under 0.1")
    assert run.store.summary is not None
    assert run.store.summary["judge_calls"] == 18  # asked all the same


@pytest.mark.parametrize("reliability", [0.1, None])
async def test_a_batch_at_the_limit_or_without_a_noise_model_is_learned(reliability: float | None) -> None:
    run = FakeRun()
    run.sink.reliability = reliability
    await run.trainer(rl=RL.model_copy(update={"min_batch_reliability": 0.1})).run()
    assert run.log.count("learn") == 2


async def test_a_batch_without_a_scored_group_is_skipped() -> None:
    run = FakeRun()
    run.sink.rewards = (None, 1.0)
    await run.trainer().run()
    assert "learn" not in run.log
    assert notes(run)[0] == ("warning", "step 1: no update, no group has enough scored rollouts")


async def test_a_step_whose_rewards_are_all_equal_is_told_and_counted() -> None:
    run = FakeRun()
    run.sink.rewards = (0.5, 0.5)
    await run.trainer().run()
    assert notes(run)[0] == ("warning", "step 1: no update, every group's rewards are equal")
    assert [done.metrics["rl/skipped"] for done in steps_done(run).values()] == [1.0, 1.0]
    assert [line for line in run.log if line.startswith("sync")] == ["sync 1", "sync 2"]


async def test_a_criterion_that_nobody_speaks_of_warns_and_the_step_is_learned() -> None:
    run = FakeRun()
    run.sink.per_criterion = {"facts": [0.0, 1.0]}
    objective = replace(make_objective(), criteria=Criteria({"facts": 1.0, "depth": 1.0}, whiten=True))
    await run.trainer(objective=objective).run()
    assert run.log.count("learn") == 2
    line = "criterion depth: no verdict of the step speaks of it; it speaks of facts"
    assert notes(run) == [("warning", f"step {step}: {line}") for step in (1, 2)]
    assert steps_done(run)[1].metrics["criterion/facts_zero_signal_rate"] == 0


async def test_a_judge_alarm_warns_and_the_step_is_learned() -> None:
    run = FakeRun()
    run.sink.reliability = 0.2
    await run.trainer(judge_alarms=(JudgeAlarm(min_reliability=0.5), JudgeAlarm(min_reliability=0.1))).run()
    assert run.log.count("learn") == 2
    line = "judge alarm: reward/reliability 0.200 is under min_reliability = 0.5"
    assert notes(run) == [("warning", f"step {step}: {line}") for step in (1, 2)]
    assert [done.metrics["judge/num_alarms"] for done in steps_done(run).values()] == [1.0, 1.0]


# --- what stops a run ----------------------------------------------------------------------------------------------


async def test_tokens_of_another_version_stop_the_run_before_they_are_saved() -> None:
    run = FakeRun()
    run.learner.syncs_reach_engines = False
    with pytest.raises(RunStopped, match=r"step2-0#0/0 was sampled by policy version 0, not 1") as caught:
        await run.trainer().run()
    assert "\n" not in str(caught.value)
    assert run.log == ["sample heldout0", "save start answers", *STEP_1, "sample step2"]


async def test_evaluation_answers_of_another_version_stop_the_run_before_they_are_judged() -> None:
    run = FakeRun()
    run.learner.syncs_reach_engines = False
    with pytest.raises(RunStopped, match="version 0, not 1"):
        await run.trainer(rl=RL.model_copy(update={"num_steps": 1})).run()
    assert run.log[-1] == "sample heldout1"


@pytest.mark.parametrize("staleness", [0, 1])
async def test_a_judge_alarm_stops_before_anything_is_learned_and_the_mended_judge_is_asked_anew(
    staleness: Literal[0, 1],
) -> None:
    run = FakeRun()
    rl, alarms = RL.model_copy(update={"staleness": staleness}), (JudgeAlarm(min_reliability=0.5, action="stop"),)
    run.sink.reliability = 0.2
    with pytest.raises(RunStopped, match=r"step 1: judge alarm: reward/reliability 0\.200 .*sampled and judged again"):
        await run.trainer(rl=rl, judge_alarms=alarms).run()
    assert run.log[-1] == "reject groups 1"
    assert "learn" not in run.log
    assert run.learner.saved == run.store.groups == {}
    assert notes(run)[-1] == ("warning", "step 1: a resumed run samples it again; its groups are elsewhere")

    run.sink.reliability = 0.9
    await run.trainer(rl=rl, judge_alarms=alarms).run()
    assert [run.log.count(line) for line in ("sample step1", "learn")] == [2, 2]


@pytest.mark.parametrize("gap", [0.21, math.nan, math.inf])
async def test_a_gap_between_learner_and_engines_stops_the_run_before_a_sync_or_a_checkpoint(gap: float) -> None:
    run = FakeRun()
    run.learner.gap = gap
    with pytest.raises(RunStopped, match=r"step 1: .*max_logprob_gap = 0\.2") as caught:
        await run.trainer().run()
    assert "\n" not in str(caught.value)
    assert run.log[-2:] == ["learn", "reject groups 1"]
    assert run.learner.saved == run.store.groups == {}
    assert notes(run) == [("warning", "step 1: a resumed run samples it again; its groups are elsewhere")]


async def test_a_batch_that_broke_the_loss_is_not_kept_but_one_whose_learner_died_is() -> None:
    for error, kept in ((BatchRejected("the loss is nan"), []), (RunStopped("learner rank 0 died"), [1])):
        run = FakeRun()

        async def step(groups: Any, *, error: RunStopped = error) -> Any:
            raise error

        run.learner.step = step  # type: ignore[method-assign]
        with pytest.raises(RunStopped, match=f"^step 1: {error}" if isinstance(error, BatchRejected) else str(error)):
            await run.trainer().run()
        assert sorted(run.store.groups) == kept
        assert run.learner.saved == {}


@pytest.mark.parametrize(
    ("expected", "staleness", "version", "wanted"),
    [
        *[(3, 0, 3, None), (3, 0, 2, "not 3:"), (3, 0, 4, "not 3:"), (3, 1, 2, None), (3, 1, 3, None)],
        *[(3, 1, 1, "not 2 or 3:"), (3, 1, 4, "not 2 or 3:"), (0, 1, 0, None), (0, 1, 1, "not 0:")],
    ],
)
def test_the_versions_that_may_have_sampled(expected: int, staleness: int, version: int, wanted: str | None) -> None:
    groups = [make_group("g", [2, None, 3], version=version)]
    if wanted is None:
        check_versions(groups, expected=expected, staleness=staleness)
        return
    with pytest.raises(RunStopped, match=wanted):
        check_versions(groups, expected=expected, staleness=staleness)


def test_a_rollout_of_two_versions_is_held_to_both() -> None:
    (group,) = [make_group("g", [4])]
    spans = (VersionSpan(1, 0, 2), VersionSpan(2, 2, 4))
    rollout = group.rollouts[0]
    assert rollout is not None
    group = replace(group, rollouts=(replace(rollout, versions=spans),))
    check_versions([group], expected=2, staleness=1)
    for expected in (1, 3):
        with pytest.raises(RunStopped):
            check_versions([group], expected=expected, staleness=1)


def test_a_gap_at_the_limit_passes() -> None:
    check_gap({"sync/logprob_gap": 0.2}, 0.2, step=1)


# --- going on ------------------------------------------------------------------------------------------------------


async def test_a_resumed_run_syncs_first_and_goes_on_after_its_checkpoint() -> None:
    run = await killed_after_step_1()
    trainer = run.trainer()
    trainer.restore(run.learner.saved["1"])
    summary = await trainer.run()
    assert run.log == ["sync 1", *STEP_2, "save summary"]
    assert run.sink.prior == {"batches": 2}
    # 6 of step 1 and 6 of its evaluation (it was the last step then), 6 of step 2 and 6 of its evaluation
    assert summary["judge_calls"] == 24


async def test_the_checkpoint_carries_the_seconds_of_its_own_step() -> None:
    run = FakeRun()
    await run.trainer().run()
    totals = run.learner.saved["1"]["totals"]
    assert {"sample", "judge", "learn", "sync"} <= totals.keys()
    assert run.learner.saved["1"]["judge_cache"] == "judge_cache.sqlite"
    trainer = FakeRun().trainer()
    trainer.restore(run.learner.saved["1"])
    assert trainer.first_step == 2
    assert trainer._clock.totals == totals


async def test_groups_on_disk_are_learned_from_again_with_the_stored_prior() -> None:
    run = await killed_after_step_1()
    groups = run.store.groups[1][0]
    run.store.groups[1] = (*run.store.groups[1][:2], {"batches": 41})
    await run.trainer().run()  # killed before its first checkpoint
    assert run.log == ["load groups 1", *STEP_1[3:], *STEP_2, "save summary"]
    assert notes(run) == [("info", "step 1: learning from the groups on disk")]
    assert run.learner.saved["1"]["prior"] == {"batches": 41}
    assert run.sink.prior == {"batches": 42}
    assert [group.group_index for group in run.learner.learned[0]] == [0, 1]
    assert run.learner.learned[0][0].prompt_token_ids is groups[0].prompt_token_ids


async def test_without_the_starting_answers_a_resumed_run_stops() -> None:
    run = await killed_after_step_1()
    run.store.start_answers = None
    trainer = run.trainer()
    trainer.restore(run.learner.saved["1"])
    with pytest.raises(RunStopped, match=r"evaluation/start\.parquet") as caught:
        await trainer.run()
    assert "\n" not in str(caught.value)
    assert run.log == []


async def test_a_run_killed_after_its_last_checkpoint_plays_the_last_evaluation_again() -> None:
    run = FakeRun()
    await run.trainer().run()
    again = FakeRun()
    again.store.start_answers = run.store.start_answers
    trainer = again.trainer()
    trainer.restore(run.learner.saved["2"])
    summary = await trainer.run()
    assert again.log == ["sync 2", "sample heldout2", "judge heldout", "save evaluation 2", "save summary"]
    assert run.store.summary is not None
    assert summary["heldout"] == run.store.summary["heldout"]
    assert summary["judge_calls"] == run.store.summary["judge_calls"]


@pytest.mark.parametrize(
    ("earlier", "keep_best", "spared"),
    [
        ({1: 0.1}, 1, [2]),
        ({1: 1.1}, 1, [1]),  # above anything that step 2 can reach
        ({1: 1.1}, 2, [1, 2]),
        ({1: 1.1}, 0, []),
        ({1: math.nan}, 1, [2]),
    ],
)
async def test_the_checkpoints_with_the_best_heldout_win_rates_are_spared(
    earlier: dict[int, float], keep_best: int, spared: list[int]
) -> None:
    run = FakeRun()
    run.store.earlier = earlier
    await run.trainer(rl=RL.model_copy(update={"checkpoint": CheckpointConfig(every=2, keep_best=keep_best)})).run()
    assert sorted(run.store.spared) == spared


async def test_an_engine_that_died_before_a_sync_is_replaced_first() -> None:
    run = FakeRun()
    run.engines.dead = 1
    await run.trainer().run()
    assert run.log[run.log.index("sync 1") - 1] == "replace the dead"
    assert run.log.count("sync 1") == 1


async def test_a_colocated_engine_that_died_before_it_slept_or_in_its_sleep_is_replaced_first() -> None:
    run = FakeRun()
    learned, judged = run.learner.step, run.sink.scores

    async def scores() -> Any:
        run.engines.dead = 1
        return await judged()

    async def step(groups: Any) -> Any:
        run.engines.dead = 1
        return await learned(groups)

    run.sink.scores, run.learner.step = scores, step  # type: ignore[method-assign]
    await run.trainer(rl=RL.model_copy(update={"num_steps": 1}), colocated=True).run()
    start = run.log.index("save groups 1") + 1
    slept = ["replace the dead", "sleep", "learn"]
    assert run.log[start : start + 7] == [*slept, "replace the dead", "wake weights", "sync 1", "wake kv_cache"]


async def test_a_sync_that_an_engines_death_broke_off_is_made_again_with_new_engines() -> None:
    run = FakeRun()
    run.learner.syncs_that_break = {2: [1, 2]}
    await run.trainer().run()
    first = run.log.index("sync 2")
    assert run.log[first : first + 5] == ["sync 2", "replace all", "sync 2", "replace all", "sync 2"]


async def test_a_sync_that_fails_among_living_engines_stops_the_run() -> None:
    run = FakeRun()
    run.learner.syncs_that_break = {2: [0]}
    with pytest.raises(RunStopped, match="broke off"):
        await run.trainer().run()
    assert run.log.count("sync 2") == 1
