"""Is the judge down, or did this one call fail? One per judge; all its attempts go through its door and report here.

up ----20 failed attempts in a row, whoever made them----> down: the door lets one attempt at a time through, after a
up <---any reply-------------------------------------------      pause that grows; all other calls wait behind it
asked in vain for `down_after_s` -------------------------> RunStopped

That time begins when the judge is found down, and stands still while an attempt is due and nobody has one to make: a
trainer that learns for an hour between two calls has learned nothing about its judge.
This is the circuit breaker: closed is up, open is down, half-open is the one attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rewards.errors import JudgeFailure, RunStopped

IN_A_ROW = 20
"""Failed attempts without a reply between them; a judge that fails every other attempt gets there once in a million."""
MIN_PAUSE_S, MAX_PAUSE_S, PAUSE_SHARE = 0.05, 20.0, 0.1
"""Pauses between attempts while the judge is down, as a share of the time that it has been: soon noticed, no rush."""


class Outage:
    """Counts the attempts since a judge's last reply. Failures that may pass count, a reply that cannot be read too.

    Args:
        down_after_s: how long a judge that is down is asked before the run stops; None: a call that failed for good is
            missing, whatever the others did.
    """

    def __init__(self, judge: str, down_after_s: float | None) -> None:
        self._judge = judge
        self._down_after_s = down_after_s
        self._failed = 0
        self._since_s = 0.0
        self._next_s = 0.0
        self._turn = asyncio.Lock()

    @property
    def is_down(self) -> bool:
        return self._down_after_s is not None and self._failed >= IN_A_ROW

    @asynccontextmanager
    async def door(self) -> AsyncIterator[None]:
        """Around an attempt. Open while the judge is up; else one at a time, and not before the next is due."""
        if not self.is_down:
            yield
            return
        async with self._turn:
            if self.is_down:
                wait_s = self._next_s - time.monotonic()
                self._since_s += max(0.0, -wait_s)  # so long nobody asked
                await asyncio.sleep(max(0.0, wait_s))
                yield  # with the turn: whoever else waits, waits for this attempt
                return
        yield

    def replied(self) -> None:
        self._failed = 0

    def failed(self, failure: JudgeFailure, now_s: float) -> None:
        """Enters a failed attempt.

        Raises:
            RunStopped: the judge has been down for too long.
        """
        if not failure.retryable:
            self.replied()
            return
        self._failed += 1
        if not self.is_down or self._down_after_s is None:
            return
        if self._failed == IN_A_ROW:
            self._since_s = now_s
        down_s = now_s - self._since_s
        pause_s = max(MIN_PAUSE_S, PAUSE_SHARE * down_s, failure.retry_after_s or 0.0)
        self._next_s = now_s + min(MAX_PAUSE_S, pause_s)
        if down_s >= self._down_after_s:
            raise RunStopped(
                f"judge {self._judge} is down: no reply to {self._failed} attempts in a row, in {down_s:.0f} s of "
                f"asking (last: {failure}); bring it back and try again (a run goes on with --resume), or raise "
                "rewards.calls.down_after_s"
            )
