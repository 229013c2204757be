"""Finds an event loop that does not turn any more: nothing that runs in the loop could.

loop, every second: put the alarm off      blocked loop: the kernel's SIGALRM comes --> `bark` runs in what blocks it

Python runs the handler between two instructions of the main thread, also inside `time.sleep`, a socket or a regular
expression; not inside a C call that waits for nothing.
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

PUT_OFF_EVERY_S = 1.0
AGAIN_S = 0.2

Bark = Callable[[FrameType | None, float], None]
"""Called with the blocked frame and for how many seconds; what it raises is raised there."""


@contextmanager
def loop_guard(deadline_s: Callable[[], float], bark: Bark) -> Iterator[Callable[[], None]]:
    """While in it, `bark` is called if the running loop does not turn for `deadline_s()`, and again until it does.

    Main thread only.

    Gives a function that puts the alarm off at once, for when the deadline changes. An alarm that was set before is
    suspended and goes on afterwards.
    """
    loop = asyncio.get_running_loop()
    turned = time.monotonic()
    ticker: asyncio.TimerHandle | None = None

    def put_off() -> None:
        nonlocal turned, ticker
        turned = time.monotonic()
        seconds = deadline_s()
        if ticker is not None:
            ticker.cancel()
        signal.setitimer(signal.ITIMER_REAL, seconds)
        ticker = loop.call_later(min(PUT_OFF_EVERY_S, seconds / 4), put_off)

    def on_alarm(number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_filename == selectors.__file__:
            return  # the loop has nothing to do: it was the whole process that stood still, as after Ctrl-Z
        try:
            bark(frame, time.monotonic() - turned)
        finally:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)  # what is next in line may block as well

    earlier_timer = signal.setitimer(signal.ITIMER_REAL, 0)
    earlier_handler = signal.signal(signal.SIGALRM, on_alarm)
    put_off()
    try:
        yield put_off
    finally:
        if ticker is not None:
            ticker.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier_handler)
        signal.setitimer(signal.ITIMER_REAL, *earlier_timer)


def place_of(frame: FrameType | None) -> str:
    """`parse (my_tasks.py:12)`."""
    if frame is None:
        return "unknown code"
    return f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
