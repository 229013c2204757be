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
        staleness: of the recipe; with 1 a step is sampled while the one before it is learned.
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
        staleness: int = 0,
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
        self._staleness = staleness
        self._sampled = 0  # the step that engines' faults were drawn for last
        self._wait_for: dict[str, int] = {}  # rollouts until an engine's fault

    def handle(self, event: Event) -> None:
        self._sink.handle(event)
        if not isinstance(event, PhaseStarted):
            return
        self._sampling(event)
        if event.phase == "learn" and self._falls("kill=learner", event.step):
            self._soon("kill=learner", event.step)
        whole_step = event.step > 0 and event.phase in DRIVER_PHASES
        if whole_step and event.phase == self._driver_phase(event.step) and self._falls("kill=driver", event.step):
            self._soon("kill=driver", event.step)

    def _sampling(self, event: PhaseStarted) -> None:
        """Draws for the step that is sampled from now on, if one is: once, also where it is refilled."""
        ahead = event.step + 1 if self._staleness else None
        sampled = {"sample": event.step, "learn": ahead}.get(event.phase)
        if sampled is None:
            self._wait_for = {}
        elif sampled != self._sampled:
            self._sampled, self._wait_for = sampled, {}
            for fault in ("kill=engine", "hang=engine"):
                if self._falls(fault, sampled):
                    self._after(int(self._chaos.draw("after", fault, sampled) * self._rollouts_per_step), fault)

    def close(self) -> None:
        self._sink.close()

    def on_rollout(self) -> None:
        """A rollout has finished."""
        for fault, number in list(self._wait_for.items()):
            if number > 0:
                self._wait_for[fault] = number - 1
            else:
                del self._wait_for[fault]
                self._strike(fault, self._sampled)

    def _falls(self, fault: str, step: int) -> bool:
        draw = self._chaos.draw(fault, self._struck[step, fault], step)
        return draw < self._chaos.probabilities.get(fault, 0.0)

    def _driver_phase(self, step: int) -> Phase:
        draw = self._chaos.draw("phase", self._struck[step, "kill=driver"], step)
        return DRIVER_PHASES[int(draw * len(DRIVER_PHASES))]

    def _after(self, num_rollouts: int, fault: str) -> None:
        if num_rollouts > 0:
            self._wait_for[fault] = num_rollouts - 1
        else:
            self._soon(fault, self._sampled)

    def _soon(self, fault: str, step: int) -> None:
        later = self._later or asyncio.get_running_loop().call_later
        later(self._chaos.draw("soon", fault, step) * SOON_S, lambda: self._strike(fault, step))

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
