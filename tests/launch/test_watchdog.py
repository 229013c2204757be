"""The watchdog: when it barks, what it says and keeps, and that work ends with it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.watchdog import Watchdog, beside, stack_of
from recipes.schema import WatchdogConfig
from rewards.errors import RunStopped
from rl.events import Event, Note, PhaseStarted, Progress, Waiting


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    def handle(self, event: Event) -> None:
        self.seen.append(event)

    def close(self) -> None:
        pass


class Bench:
    """A watchdog with a clock that is set by hand."""

    def __init__(
        self, run: Path, *, action: str = "stop", processes: dict[str, int] | None = None, **phases: float
    ) -> None:
        self.now, self.kills, self.sink, self.starting = 0.0, 0, Recorder(), False
        self.waiting: list[str] = []
        self.at_work = True
        self.dog = Watchdog(
            WatchdogConfig.model_validate({"deadline_s": 60.0, "action": action, "phases": phases}),
            self.sink,
            run,
            processes=lambda: processes or {},
            waiting=lambda: self.waiting,
            kill_engines=self._kill,
            starting=lambda: self.starting,
            clock=lambda: self.now,
        )

    def _kill(self) -> bool:
        self.kills += self.at_work
        return self.at_work


async def test_it_is_quiet_while_there_are_signs_of_life(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.dog.handle(PhaseStarted(3, "sample", 0.0))
    for bench.now in (59.0, 118.0, 177.0):
        await bench.dog.look()
        bench.dog.handle(Progress("sample", 1, 8, "rollouts"))
    assert not (tmp_path / "stacks").exists()
    assert (
        len([event for event in bench.sink.seen if not isinstance(event, Waiting)]) == 4
    )  # events go on to whoever listens


async def test_a_stuck_phase_is_named_with_what_it_waits_for_and_stops_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.dog.handle(PhaseStarted(3, "sample", 0.0))
    bench.waiting = [f"rollout step3-{slot}#0/1" for slot in range(5)]
    bench.now = 61.0
    expected = r"step 3, phase sample: no sign of life for 61 s, waiting for .*step3-2#0/1 and 2 more; stacks are in"
    with pytest.raises(RunStopped, match=expected) as caught:
        await bench.dog.look()
    assert "\n" not in str(caught.value)
    (folder,) = (tmp_path / "stacks").iterdir()
    assert folder.name == "step_3-sample-1"
    assert "await bench.dog.look()" in (folder / "driver.txt").read_text()  # this test's own task


async def test_retry_kills_the_engines_while_they_sample_and_stops_in_any_other_phase(tmp_path: Path) -> None:
    bench = Bench(tmp_path, action="retry")
    bench.dog.handle(PhaseStarted(1, "sample", 0.0))
    bench.now = 61.0
    await bench.dog.look()
    assert bench.kills == 1
    assert isinstance(bench.sink.seen[-1], Note)
    await bench.dog.look()  # the new engines have the whole deadline
    assert bench.kills == 1
    bench.dog.handle(PhaseStarted(1, "learn", 61.0))
    bench.now = 122.0
    with pytest.raises(RunStopped, match="phase learn"):
        await bench.dog.look()
    assert bench.kills == 1


async def test_retry_stops_the_run_where_no_engine_is_at_work(tmp_path: Path) -> None:
    bench = Bench(tmp_path, action="retry")
    bench.dog.handle(PhaseStarted(3, "evaluate", 0.0))
    bench.at_work, bench.waiting, bench.now = False, ["scores of heldout3-0#0"], 61.0
    with pytest.raises(RunStopped, match="phase evaluate: no sign of life for 61 s, waiting for scores of heldout3-0"):
        await bench.dog.look()
    assert bench.kills == 0


async def test_a_phase_may_have_a_deadline_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, sample=10.0, learn=600.0)
    bench.dog.handle(PhaseStarted(1, "learn", 0.0))
    bench.now = 599.0
    await bench.dog.look()
    bench.dog.handle(PhaseStarted(2, "judge", 0.0))
    bench.now += 59.0
    await bench.dog.look()
    bench.dog.handle(PhaseStarted(2, "sample", 0.0))
    bench.now += 10.0
    with pytest.raises(RunStopped, match="step 2, phase sample: no sign of life for 10 s"):
        await bench.dog.look()


async def test_an_engine_that_is_being_replaced_has_the_time_of_a_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path, action="retry", sample=10.0, start=100.0)
    bench.dog.handle(PhaseStarted(2, "sample", 0.0))
    bench.starting, bench.now = True, 99.0
    await bench.dog.look()
    bench.now = 100.0
    with pytest.raises(RunStopped, match="phase sample: no sign of life for 100 s"):  # no engine to kill yet
        await bench.dog.look()
    assert bench.kills == 0


async def test_a_new_engine_has_the_whole_deadline_however_long_it_took_to_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path, action="retry", sample=10.0, start=100.0)
    bench.dog.handle(PhaseStarted(2, "sample", 0.0))
    for bench.now, bench.starting in ((2.0, True), (90.0, True), (92.0, False), (101.0, False)):
        await bench.dog.look()
    assert bench.kills == 0
    bench.now = 102.0
    await bench.dog.look()
    assert bench.kills == 1


async def test_the_stack_of_a_hanging_process_names_the_function_that_hangs(tmp_path: Path) -> None:
    code = (
        "import sys, time\ndef waits_for_godot():\n    print('up', flush=True)\n    time.sleep(60)\nwaits_for_godot()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        bench = Bench(tmp_path, processes={"engine0-1": process.pid})
        bench.now = 61.0
        with pytest.raises(RunStopped):
            await bench.dog.look()
    finally:
        process.kill()
        process.wait()
    assert "waits_for_godot" in (tmp_path / "stacks" / "step_0-start-1" / "engine0-1.txt").read_text()


def test_a_process_that_is_gone_has_no_stack_and_says_so() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert stack_of(process.pid).startswith(f"no stack of process {process.pid}:")


async def test_a_quiet_phase_says_what_it_waits_for_long_before_its_deadline(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.dog.handle(PhaseStarted(3, "judge", 0.0))
    bench.now = 9.0
    await bench.dog.look()
    assert len(bench.sink.seen) == 1
    bench.waiting = [f"match step3-0#0: {a} against 3" for a in range(5)]
    for bench.now in (10.0, 12.0):
        await bench.dog.look()
    on = "match step3-0#0: 0 against 3, match step3-0#0: 1 against 3, match step3-0#0: 2 against 3 and 2 more"
    assert bench.sink.seen[1:] == [Waiting("judge", 10.0, on), Waiting("judge", 12.0, on)]
    bench.now = 61.0  # saying so is no sign of life
    with pytest.raises(RunStopped, match="no sign of life for 61 s"):
        await bench.dog.look()


def my_parser() -> None:
    time.sleep(30)


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_driver_that_is_kept_busy_is_stopped_in_what_keeps_it(tmp_path: Path, swallowed: bool) -> None:
    bench = Bench(tmp_path, start=1.0, judge=0.2)
    before = signal.getsignal(signal.SIGALRM)
    left_s, _ = signal.getitimer(signal.ITIMER_REAL)

    async def work() -> None:
        await asyncio.sleep(0)
        bench.dog.handle(PhaseStarted(3, "judge", 0.0))  # the watch has begun under the longer deadline of another
        # Several at once, as judge calls are: all of them come before the watch has its turn.
        await asyncio.gather(*(parse() for _ in range(3)))
        await asyncio.sleep(30)

    async def parse() -> None:
        try:
            my_parser()
        except RunStopped:
            if not swallowed:
                raise

    expected = r"step 3, phase judge: the driver has been busy for 0 s in my_parser \(test_watchdog.py:\d+\) and does"
    with pytest.raises(RunStopped, match=expected) as caught:
        asyncio.run(beside(work(), bench.dog.watch()))
    assert "\n" not in str(caught.value)
    (folder,) = (tmp_path / "stacks").iterdir()
    assert "in my_parser" in (folder / "driver.txt").read_text()
    bench.dog.handle(PhaseStarted(3, "learn", 0.0))  # nothing is watched any more
    assert signal.getsignal(signal.SIGALRM) is before
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (left_s > 0)  # the alarm of whoever called us goes on


async def test_work_ends_when_the_watchdog_barks() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def watch() -> None:
        raise RunStopped("stuck")

    with pytest.raises(RunStopped, match="stuck"):
        await beside(work(), watch())
    assert ended.is_set()


async def test_the_watch_ends_with_the_work_and_its_error_is_the_one_that_counts() -> None:
    async def fails() -> None:
        raise ValueError("a bug")

    async def watch() -> None:
        await asyncio.sleep(60)

    with pytest.raises(ValueError, match="a bug"):
        await beside(fails(), watch())
    await asyncio.wait_for(beside(asyncio.sleep(0, None), watch()), timeout=5)
