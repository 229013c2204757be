"""Watches the clock of a run: a phase without a sign of life is named, its stacks are kept, and the run is ended.

trainer --events--> Watchdog.handle   any event of a phase is a sign of life
                        ^
watch() looks every few seconds; after a while without one: tells the display what the phase waits for
                        |
past the deadline: stacks of driver, engines and ranks -> RUN/stacks/*.txt
                        |
                        +-- action `retry`, rollouts unfinished: kill the engines, the pool replaces them
                        +-- otherwise RunStopped: the run ends with one line and can be resumed

A driver that is busy itself (a judge, a parser or a file system that does not come back) cannot look: the kernel's
alarm (launch/loop_guard.py) goes off in its stead.
"""

from __future__ import annotations

import asyncio
import faulthandler
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from launch.loop_guard import loop_guard, place_of
from recipes.schema import WatchdogConfig
from rewards.errors import RunStopped
from rl.events import Event, EventSink, Note, Phase, PhaseStarted, Waiting

LOOK_EVERY_S = 2.0
QUIET_S = 10.0
DUMP_TIMEOUT_S = 30.0
NUM_NAMED = 3


class Watchdog:
    """An EventSink in front of `sink`.

    Args:
        run: where `stacks/` goes.
        processes: name and process id of every engine process and learner rank on this host.
        waiting: what the phase waits for, for instance rollouts that have not come back.
        kill_engines: for the action `retry`; False where no engine is at work, and none is killed.
        starting: whether an engine is being replaced, which may take as long as the phase `start`.
    """

    def __init__(
        self,
        config: WatchdogConfig,
        sink: EventSink,
        run: Path,
        *,
        processes: Callable[[], Mapping[str, int]],
        waiting: Callable[[], Sequence[str]],
        kill_engines: Callable[[], bool],
        starting: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._sink, self._run = config, sink, run
        self._processes, self._waiting, self._kill_engines = processes, waiting, kill_engines
        self._starting, self._clock = starting, clock
        self._step = 0
        self._phase: Phase = "start"
        self._last_sign = clock()
        self._was_starting = False
        self._num_dumps = 0
        self._blocked: RunStopped | None = None
        self._put_alarm_off: Callable[[], None] | None = None

    def handle(self, event: Event) -> None:
        self._last_sign = self._clock()
        if isinstance(event, PhaseStarted):
            self._step, self._phase = event.step, event.phase
            if self._put_alarm_off is not None:
                self._put_alarm_off()  # the new phase may have a shorter deadline
        self._sink.handle(event)

    def close(self) -> None:
        self._sink.close()

    async def watch(self) -> None:
        """Runs beside the trainer, for as long as it does.

        Raises:
            RunStopped: a phase is stuck.
        """
        with loop_guard(self._deadline_s, self._on_blocked) as put_alarm_off:
            self._put_alarm_off = put_alarm_off
            try:
                while self._blocked is None:
                    await asyncio.sleep(min(LOOK_EVERY_S, self._deadline_s() / 4))
                    await self.look()
                raise self._blocked  # again, for what keeps the loop may have swallowed it
            finally:
                self._put_alarm_off = None

    async def look(self) -> None:
        """One look at the clock. Raises RunStopped, or retries, if the phase is past its deadline."""
        if self._was_starting and not self._starting():
            self._last_sign = self._clock()  # the new engine has the whole deadline
        self._was_starting = self._starting()
        silent_s = self._clock() - self._last_sign
        if silent_s < self._deadline_s():
            if silent_s >= QUIET_S:
                self._sink.handle(Waiting(self._phase, silent_s, self._names()))
            return
        folder = self._new_folder()
        self._dump_driver(folder)
        await asyncio.to_thread(self._dump_processes, folder)
        names = self._names()
        waits_for = f", waiting for {names}" if names else ""
        what = f"step {self._step}, phase {self._phase}: no sign of life for {silent_s:.0f} s{waits_for}"
        may_retry = self._config.action == "retry" and self._phase in ("sample", "evaluate") and not self._starting()
        if may_retry and self._kill_engines():
            self.handle(Note("warning", f"{what}; engines are killed and replaced, stacks are in {folder}"))
            return
        raise RunStopped(f"{what}; stacks are in {folder}. Resume the run, or raise launch.watchdog.deadline_s")

    def _on_blocked(self, frame: FrameType | None, blocked_s: float) -> None:
        """Raises RunStopped in the code that keeps the driver from everything else; the same in whatever does next."""
        if self._blocked is not None:
            raise self._blocked
        folder = self._new_folder()
        self._dump_driver(folder)
        self._dump_processes(folder)
        self._blocked = RunStopped(
            f"step {self._step}, phase {self._phase}: the driver has been busy for {blocked_s:.0f} s in "
            f"{place_of(frame)} and does nothing else; stacks are in {folder}. Resume the run, or raise "
            "launch.watchdog.deadline_s"
        )
        raise self._blocked

    def _deadline_s(self) -> float:
        own = getattr(self._config.phases, "start" if self._starting() else self._phase)
        return self._config.deadline_s if own is None else own

    def _names(self) -> str:
        """What the phase waits for, the first few by name."""
        names = list(self._waiting())
        more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
        return ", ".join(names[:NUM_NAMED]) + more

    def _new_folder(self) -> Path:
        self._num_dumps += 1
        folder = self._run / "stacks" / f"step_{self._step}-{self._phase}-{self._num_dumps}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _dump_driver(self, folder: Path) -> None:
        with (folder / "driver.txt").open("w") as file:
            for task in asyncio.all_tasks():  # a thread's stack says nothing of coroutines that wait
                task.print_stack(file=file)
            faulthandler.dump_traceback(file, all_threads=True)

    def _dump_processes(self, folder: Path) -> None:
        for name, pid in self._processes().items():
            (folder / f"{name}.txt").write_text(stack_of(pid))


async def beside(work: Coroutine[Any, Any, None], watch: Coroutine[Any, Any, None]) -> None:
    """Does the work while `watch` runs beside it. What `watch` raises ends the work and is raised."""
    tasks = [asyncio.create_task(work), asyncio.create_task(watch)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def stack_of(pid: int) -> str:
    """The Python stack of a process on this host by py-spy, or the reason that there is none."""
    command = [str(Path(sys.executable).with_name("py-spy")), "dump", "--pid", str(pid), "--nonblocking"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DUMP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no stack of process {pid}: {error}\n"
    return done.stdout if done.returncode == 0 else f"no stack of process {pid}: {done.stderr.strip()}\n"
