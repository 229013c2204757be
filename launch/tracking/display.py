"""The screen: one live panel on a terminal, few plain lines elsewhere. Both draw the same Status.

trainer thread --handle--> status (a frozen value) <--reads, twice a second-- Rich's refresh thread
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from launch.tracking.status import Status, duration_text, figures_text, heldout_text, progress_text, waiting_text
from rl.events import Event, EventSink, Note, PhaseStarted, Progress, StepDone, Waiting

QUIET_S = 30.0
"""A plain log gets a sign of life after so many seconds without a line."""


def make_display(
    kind: Literal["auto", "rich", "plain"], title: str, num_steps: int, console: Console | None = None
) -> EventSink:
    """The display a recipe asks for, on stderr: what a command prints on stdout stays clean."""
    console = console or Console(stderr=True)
    if kind == "rich" or (kind == "auto" and console.is_terminal):
        return LiveDisplay(title, num_steps, console)
    return PlainDisplay(num_steps, console)


class LiveDisplay:
    """A panel that is redrawn in place."""

    def __init__(self, title: str, num_steps: int, console: Console):
        self._title = title
        self._status = Status(num_steps)
        self._live = Live(get_renderable=self._panel, console=console, refresh_per_second=2)
        self._live.start()

    def handle(self, event: Event) -> None:
        self._status = self._status.after(event)
        if isinstance(event, Note):
            style = "yellow" if event.level == "warning" else "dim"
            self._live.console.print(f"[{style}]{escape(event.text)}[/]", soft_wrap=True)

    def close(self) -> None:
        self._live.stop()

    def _panel(self) -> Panel:
        status = self._status
        rows = Table.grid(padding=(0, 2))
        to_go = status.seconds_to_go
        rows.add_row("step", f"{status.step}/{status.num_steps}" + (f", {duration_text(to_go)} to go" if to_go else ""))
        if status.phase:
            doing = f"{status.phase}, {duration_text(time.monotonic() - status.phase_start_s)}"
            rows.add_row("phase", f"{doing} · {progress_text(status.progress)}" if status.progress else doing)
        if status.waiting:
            rows.add_row("", f"[yellow]{escape(waiting_text(status.waiting))}[/]")
        if figures := figures_text(status.metrics):
            rows.add_row(f"after step {status.done}", figures)
        if heldout := heldout_text(status.heldout):
            rows.add_row(f"at step {status.heldout_step}", f"[bold]{escape(heldout)}[/]")
        return Panel(rows, title=escape(self._title), title_align="left", expand=False)


class PlainDisplay:
    """A line per finished step and per note, and a sign of life in long phases. Progress by itself prints nothing."""

    def __init__(self, num_steps: int, console: Console, clock: Callable[[], float] = time.monotonic):
        self._status = Status(num_steps)
        self._console = console
        self._clock = clock
        self._last_line_s = clock()

    def handle(self, event: Event) -> None:
        self._status = self._status.after(event)
        status = self._status
        match event:
            case Note(level=level, text=text):
                self._line(f"warning: {text}" if level == "warning" else text)
            case StepDone(metrics=metrics):
                to_go = status.seconds_to_go
                parts = [figures_text(metrics), heldout_text(metrics), f"{duration_text(to_go)} to go" if to_go else ""]
                self._line(f"step {status.done}/{status.num_steps}: " + " · ".join(part for part in parts if part))
            case PhaseStarted(step=step, phase="start" | "evaluate" as phase):
                self._line(f"step {step}/{status.num_steps}: {phase}")
            case Progress() if self._clock() - self._last_line_s >= QUIET_S:
                self._line(f"step {status.step}/{status.num_steps}: {event.phase}, {progress_text(event)}")
            case Waiting() if self._clock() - self._last_line_s >= QUIET_S:
                self._line(f"step {status.step}/{status.num_steps}: {event.phase}, {waiting_text(event)}")

    def close(self) -> None:
        pass

    def _line(self, text: str) -> None:
        self._last_line_s = self._clock()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
