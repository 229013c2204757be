"""Processes that are killed or stopped on purpose (launch/chaos.py).

trainer --events--> ProcessFaults --> progress, watchdog, tracker
                        |  a phase begins: does a fault fall into it? then, after so many rollouts or so soon:
                        +--> RUN/chaos.jsonl --> SIGKILL or SIGSTOP
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from launch import atomic
from launch.chaos import Chaos
from rl.events import Event, EventSink, Note, Phase, PhaseStarted

DRIVER_PHASES: tuple[Phase, ...] = ("sample", "judge", "learn", "sync", "save")
SOON_S = 0.2
"""What is not counted in rollouts comes within this after its phase began."""

VITAL = ("actor", "core", "worker", "rank", "driver")
"""Whose end matters, by their names."""

Processes = Callable[[], Mapping[str, int]]


class ProcessFaults:
    """An EventSink in front of `sink`.

    A fault that struck a step before, in this process or the one that it killed, is drawn anew: a resumed run gets on.

    Args:
        engines, ranks: name and process id of every engine process and learner rank on this host.
        rollouts_per_step: an engine's fault comes after fewer than these.
        log: one JSON object a line: step, fault, whom.
        later: calls a function after so many seconds; default: the running loop's `call_later`.
    """

    def __init__(
        self,
        chaos: Chaos,
        sink: EventSink,
        *,
        engines: Processes,
        ranks: Processes,
        rollouts_per_step: int,
        log: Path,
        kill: Callable[[int, int], None] = os.kill,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._chaos, self._sink = chaos, sink
        self._engines, self._ranks, self._kill, self._later = engines, ranks, kill, later
        self._rollouts_per_step = rollouts_per_step
        self._log = log
        lines = log.read_text().splitlines() if log.exists() else []
        self._struck = Counter((entry["step"], entry["fault"]) for entry in map(json.loads, lines))
        self._step = 0
        self._wait_for: dict[str, int] = {}  # rollouts until an engine's fault

    def handle(self, event: Event) -> None:
        self._sink.handle(event)
        if not isinstance(event, PhaseStarted):
            return
        self._step, self._wait_for = event.step, {}
        if event.phase == "sample":
            for fault in ("kill=engine", "hang=engine"):
                if self._falls(fault):
                    self._after(int(self._draw("after", fault) * self._rollouts_per_step), fault)
        if event.phase == "learn" and self._falls("kill=learner"):
            self._soon("kill=learner")
        whole_step = event.step > 0 and event.phase in DRIVER_PHASES
        if whole_step and event.phase == self._one_of(DRIVER_PHASES) and self._falls("kill=driver"):
            self._soon("kill=driver")

    def close(self) -> None:
        self._sink.close()

    def on_rollout(self) -> None:
        """A rollout has finished."""
        for fault, number in list(self._wait_for.items()):
            if number > 0:
                self._wait_for[fault] = number - 1
            else:
                del self._wait_for[fault]
                self._strike(fault, self._step)

    def _draw(self, *about: object) -> float:
        return self._chaos.draw(*about, self._step)

    def _falls(self, fault: str) -> bool:
        draw = self._draw(fault, self._struck[self._step, fault])
        return draw < self._chaos.probabilities.get(fault, 0.0)

    def _one_of(self, phases: tuple[Phase, ...]) -> Phase:
        return phases[int(self._draw("phase", self._struck[self._step, "kill=driver"]) * len(phases))]

    def _after(self, num_rollouts: int, fault: str) -> None:
        if num_rollouts > 0:
            self._wait_for[fault] = num_rollouts - 1
        else:
            self._soon(fault)

    def _soon(self, fault: str) -> None:
        later = self._later or asyncio.get_running_loop().call_later
        step = self._step  # the next one may have begun by then
        later(self._draw("soon", fault) * SOON_S, lambda: self._strike(fault, step))

    def _strike(self, fault: str, step: int) -> None:
        how, _, whom = fault.partition("=")
        found = {"engine": self._engines, "learner": self._ranks, "driver": lambda: {"driver": os.getpid()}}[whom]()
        # vLLM can do without its helpers; nothing would come of their end.
        processes = sorted((name, pid) for name, pid in found.items() if any(part in name for part in VITAL))
        if not processes:
            return
        name, pid = processes[int(self._chaos.draw("whom", fault, step) * len(processes))]
        doing = "killing" if how == "kill" else "stopping"
        self._sink.handle(Note("warning", f"chaos: step {step}: {doing} {name}"))
        self._struck[step, fault] += 1
        atomic.append_line(self._log, json.dumps({"step": step, "fault": fault, "whom": name}))
        self._kill(pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
