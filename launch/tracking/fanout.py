"""One sink that is several."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from rl.events import Event, EventSink


class Fanout:
    """Hands each event to every sink in order; the files come first, so that a broken screen loses no row."""

    def __init__(self, sinks: Sequence[EventSink]):
        self._sinks = tuple(sinks)

    def handle(self, event: Event) -> None:
        for sink in self._sinks:
            sink.handle(event)

    def close(self) -> None:
        """Closes all of them, also when one fails to."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)
