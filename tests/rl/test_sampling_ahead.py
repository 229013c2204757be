"""A step sampled while the one before it is learned: who overlaps whom, whose weights sampled, what a stop leaves."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rewards.errors import RunStopped
from rl.config import CheckpointConfig
from rl.events import PhaseStarted
from rl.trainer import Trainer
from tests.rl.fakes import RL, FakeRun
from tests.rl.test_trainer import steps_done

AHEAD = RL.model_copy(update={"staleness": 1, "num_steps": 4})
SELDOM = AHEAD.model_copy(update={"num_steps": 9, "checkpoint": CheckpointConfig(every=5)})


def first_key(requests: Any) -> str:
    return requests[0].key.group_id


def around_sampling(run: FakeRun, hook: Callable[[str], Awaitable[None]]) -> None:
    """Calls the hook with the first group's name before every sampling."""
    sampled = run.engines.sample

    async def sample(requests: Any, sink: Any = None) -> Any:
        await hook(first_key(requests))
        return await sampled(requests, sink)

    run.engines.sample = sample  # type: ignore[method-assign]


def before_learning(run: FakeRun, hook: Callable[[int], Awaitable[None]]) -> None:
    """Calls the hook with the number of the step before it is learned."""
    learned = run.learner.step

    async def step(groups: Any) -> Any:
        await hook(run.log.count("learn") + 1)
        return await learned(groups)

    run.learner.step = step  # type: ignore[method-assign]


def versions(run: FakeRun) -> dict[int, set[int]]:
    return {
        step: {span.version for group in groups for rollout in group.rollouts if rollout for span in rollout.versions}
        for step, (groups, _, _) in run.store.groups.items()
    }


async def test_the_next_step_is_sampled_judged_and_saved_while_this_one_is_learned() -> None:
    run = FakeRun()

    async def until_saved(step: int) -> None:
        async with asyncio.timeout(5):
            while step < 4 and f"save groups {step + 1}" not in run.log:
                await asyncio.sleep(0)

    before_learning(run, until_saved)
    await run.trainer(rl=AHEAD).run()
    assert run.log[2:11] == [
        *["sample step1", "judge training", "save groups 1"],
        *["sample step2", "judge training", "save groups 2", "learn", "sync 1", "save checkpoint 1"],
    ]
    assert versions(run) == {1: {0}, 2: {0}, 3: {1}, 4: {2}}
    assert run.log.count("sample step4") == 1
    assert "sample step5" not in run.log
    assert [done.metrics["stale/mean_versions"] for done in steps_done(run).values()] == [0.0, 1.0, 1.0, 1.0]
    assert run.store.summary is not None
    assert run.store.summary["judge_calls"] == 4 * 2 * 3 + 2 * 3


async def test_no_engine_changes_weights_while_it_samples_and_no_checkpoint_is_ahead_of_its_groups() -> None:
    run = FakeRun()

    async def slowly(name: str) -> None:
        if name.startswith("step"):
            for _ in range(50):
                await asyncio.sleep(0)

    around_sampling(run, slowly)
    await run.trainer(rl=AHEAD).run()
    for step in (1, 2, 3):
        assert run.log.index(f"save groups {step + 1}") < run.log.index(f"sync {step}")
        assert run.log.index(f"save groups {step + 1}") < run.log.index(f"save checkpoint {step}")
        assert run.log.index("learn") < run.log.index(f"save groups {step + 1}")  # learned meanwhile


async def test_phases_come_one_at_a_time_and_sampling_is_told_where_the_loop_waits_for_it() -> None:
    run = FakeRun()
    may_sample = asyncio.Event()

    async def gate(name: str) -> None:
        if name == "step2-0":
            await may_sample.wait()

    around_sampling(run, gate)
    handle = run.events.handle

    def open_gate(event: Any) -> None:
        handle(event)
        if isinstance(event, PhaseStarted) and (event.step, event.phase) == (2, "sample"):
            may_sample.set()

    run.events.handle = open_gate  # type: ignore[method-assign]
    await run.trainer(rl=AHEAD.model_copy(update={"num_steps": 2})).run()
    phases = [(event.step, event.phase) for event in run.events.seen if isinstance(event, PhaseStarted)]
    assert phases[1:9] == [
        *[(1, "sample"), (1, "judge"), (1, "save"), (1, "learn")],
        *[(2, "sample"), (2, "judge"), (2, "save"), (1, "sync")],
    ]
    first, last = steps_done(run)[1].metrics, steps_done(run)[2].metrics
    assert first["time/step_s"] == pytest.approx(
        sum(first[f"time/{p}_s"] for p in ("sample", "judge", "save", "learn", "sync"))
    )
    assert "time/sample_s" not in last  # nothing was waited for
    assert last["rollout/tokens_per_s"] > 0  # though it took its time


# --- alarms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.21, math.nan])
async def test_what_was_learned_since_is_no_alarm_but_the_probe_is(gap: float) -> None:
    run = FakeRun()
    run.learner.gap = gap
    rl = AHEAD.model_copy(update={"sync": AHEAD.sync.model_copy(update={"verify_every": 1})})
    await run.trainer(rl=rl).run()
    row = steps_done(run)[3].metrics
    assert row["stale/logprob_gap"] is gap
    assert row["sync/logprob_gap"] == 0.0
    broken = FakeRun()
    broken.learner.probe_gap = gap
    with pytest.raises(RunStopped, match=r"step 1: .*max_logprob_gap = 0\.2"):
        await broken.trainer(rl=rl).run()
    assert broken.log[-2:] == ["sync 1", "sample probe1"]
    assert broken.learner.saved == {}


async def test_every_engine_is_probed_with_each_verified_sync() -> None:
    run = FakeRun()
    asked: list[Any] = []
    sampled = run.engines.sample

    async def sample(requests: Any, sink: Any = None) -> Any:
        if first_key(requests).startswith("probe"):
            asked.extend(requests)
        return await sampled(requests, sink)

    run.engines.sample = sample  # type: ignore[method-assign]
    await run.trainer(rl=AHEAD, num_engines=3).run()  # verify_every is 2
    assert [str(request.key) for request in asked] == [f"probe{step}-{i}#0" for step in (2, 4) for i in range(3)]
    assert {len(request.seeds) for request in asked} == {1}
    assert [request.prompt.id for request in asked[:3]] == ["t0", "t1", "t0"]
    assert [r for r in run.sink.opened if "probe" in r.group_id] == []


@pytest.mark.parametrize("verify_every", [1, 4])
async def test_a_skipped_sync_is_caught_by_the_probe_or_by_the_versions(verify_every: int) -> None:
    run = FakeRun()
    run.learner.syncs_reach_engines = False
    sync = AHEAD.sync.model_copy(update={"verify_every": verify_every})
    message = (
        "policy version 0, not 1: " if verify_every == 1 else "step3-0#0/0 was sampled by policy version 0, not 1 or 2"
    )
    with pytest.raises(RunStopped, match=message):
        await run.trainer(rl=AHEAD.model_copy(update={"sync": sync})).run()
    assert sorted(run.store.groups) == ([1, 2])


async def test_a_fault_while_learning_breaks_the_sampling_off() -> None:
    run = FakeRun()
    cancelled: list[str] = []

    async def forever(name: str) -> None:
        if name == "step2-0":
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(name)
                raise

    async def fail(step: int) -> None:
        await asyncio.sleep(0)
        raise RunStopped("the loss is nan")

    around_sampling(run, forever)
    before_learning(run, fail)
    with pytest.raises(RunStopped, match="the loss is nan"):
        await run.trainer(rl=AHEAD).run()
    assert cancelled == ["step2-0"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_fault_while_sampling_ahead_stops_the_run_after_the_step_is_learned() -> None:
    run = FakeRun()

    async def fail(name: str) -> None:
        if name == "step3-0":
            raise RunStopped("engine 0 died 4 times")

    around_sampling(run, fail)
    with pytest.raises(RunStopped, match="engine 0 died 4 times"):
        await run.trainer(rl=AHEAD).run()
    assert run.log.count("learn") == 2
    assert "sync 2" not in run.log
    assert sorted(run.learner.saved) == ["1"]


# --- stops and kills ------------------------------------------------------------------------------------------------


def resumed(run: FakeRun, step: str) -> tuple[FakeRun, Trainer]:
    """What a driver finds that starts again after the checkpoint of `step`."""
    again = FakeRun()
    again.store.start_answers, again.store.groups = run.store.start_answers, run.store.groups
    trainer = again.trainer(rl=AHEAD)
    trainer.restore(run.learner.saved[step])
    return again, trainer


async def test_a_stop_while_learning_breaks_the_sampling_off_and_saves_what_was_learned() -> None:
    run = FakeRun()
    trainer = run.trainer(rl=SELDOM)

    async def forever(name: str) -> None:
        if name == "step3-0":
            await asyncio.sleep(3600)

    async def stop(step: int) -> None:
        if step == 2:
            await asyncio.sleep(0)
            assert trainer.request_stop()

    around_sampling(run, forever)
    before_learning(run, stop)
    with pytest.raises(asyncio.CancelledError):
        await trainer.run()
    assert sorted(run.learner.saved) == ["2"]
    assert run.learner.saved["2"]["prior"] == {"batches": 2}
    assert sorted(steps_done(run)) == [1, 2]
    again, trainer = resumed(run, "2")
    await trainer.run()
    assert again.log[:2] == ["sync 2", "sample step3"]
    assert versions(again)[3] == {2}  # by the newest weights, as a first step is
    assert versions(again)[4] == {2}
    assert [done.metrics["stale/mean_versions"] for done in steps_done(again).values()] == [0.0, 1.0]


async def test_a_stop_after_the_sampling_keeps_the_groups() -> None:
    run = FakeRun()
    trainer = run.trainer(rl=SELDOM)

    async def stop(step: int) -> None:
        async with asyncio.timeout(5):
            while f"save groups {step + 1}" not in run.log:
                await asyncio.sleep(0)
        if step == 2:
            assert trainer.request_stop()

    before_learning(run, stop)
    with pytest.raises(asyncio.CancelledError):
        await trainer.run()
    again, trainer = resumed(run, "2")
    await trainer.run()
    assert again.log[:2] == ["sync 2", "load groups 3"]
    assert versions(again) == {1: {0}, 2: {0}, 3: {1}, 4: {2}}  # as if nobody had stopped it
    # The groups of step 4 are on disk before step 3 is saved.
    assert [saved["prior"] for saved in again.learner.saved.values()] == [{"batches": 4}, {"batches": 4}]


async def test_a_killed_run_learns_from_the_same_groups_as_an_undisturbed_one() -> None:
    class Killed(BaseException): ...

    quiet = FakeRun()
    await quiet.trainer(rl=AHEAD).run()
    run = FakeRun()

    async def die(step: int) -> None:
        if step == 3:
            raise Killed

    before_learning(run, die)
    with pytest.raises(Killed):
        await run.trainer(rl=AHEAD).run()
    again, trainer = resumed(run, "2")
    await trainer.run()
    assert again.log[:6] == ["sync 2", "load groups 3", "learn", "sample step4", "judge training", "save groups 4"]
    assert versions(again) == versions(quiet)
    assert [again.learner.saved[step]["prior"] for step in "34"] == [
        quiet.learner.saved[step]["prior"] for step in "34"
    ]
