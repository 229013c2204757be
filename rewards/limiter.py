"""How many judge calls may be at work, and how many a minute; first come, first served.

call --take(num_tokens)--> queue --pump--> Throttle: a place, its requests, the tokens it is likely to take --> lease
call --give_back(lease, tokens it took)--> Throttle corrects its account --> pump

A `Throttle` is pure arithmetic over a clock that is passed in. `LocalLimiter` queues calls of one event loop before it;
`rewards/service.py` puts one into a Ray actor, so that every run of a cluster queues there.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

BURST_S = 5.0
"""Seconds' worth of requests and tokens that may go at once after a pause."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Leave for one attempt. `num_tokens` is what it was expected to take."""

    id: int
    num_tokens: int


@runtime_checkable
class Limiter(Protocol):
    """Whoever makes a call takes a lease, waits for the judge, and gives the lease back, however the call ended."""

    async def take(self, num_tokens: int, *, lease_s: float, num_requests: int = 1) -> Lease:
        """Waits until a call of about so many tokens, that sends so many requests at once, may start.

        A lease kept for `lease_s` is held to be lost.
        """
        ...

    def give_back(self, lease: Lease, num_tokens: int | None, *, more_requests: int = 0) -> None:
        """The call has ended and took so many tokens; None: nobody knows, the estimate stands.

        more_requests: sent beside those that the lease was for.
        """
        ...


class Bucket:
    """A token bucket: fills at a rate, holds `BURST_S` of it, at least 1.

    Something larger than the bucket goes when it is full and leaves it in debt, so that the rate holds.
    """

    def __init__(self, per_minute: float, now_s: float) -> None:
        self._per_s = per_minute / 60.0
        self._size = max(1.0, self._per_s * BURST_S)
        self._level = self._size
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until `amount` can be taken."""
        self._level = min(self._size, self._level + self._per_s * (now_s - self._at_s))
        self._at_s = now_s
        return max(0.0, (min(amount, self._size) - self._level) / self._per_s)

    def take(self, amount: float) -> None:
        """`amount` may be negative: what was taken and not needed."""
        self._level -= amount


class Throttle:
    """Who may go now. None = no such limit. `now_s`: a clock that only goes forward."""

    def __init__(
        self,
        *,
        max_concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        now_s: float = 0.0,
    ) -> None:
        self._places = max_concurrency
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute, now_s)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute, now_s)
        self.at_work = 0

    def wait_s(self, num_tokens: int, now_s: float, *, num_requests: int = 1) -> float | None:
        """Seconds until a call of so many tokens and requests may go; None: not before another one has ended."""
        if self._places is not None and self.at_work >= self._places:
            return None
        waits = [0.0]
        if self._requests is not None:
            waits.append(self._requests.wait_s(float(num_requests), now_s))
        if self._tokens is not None:
            waits.append(self._tokens.wait_s(float(num_tokens), now_s))
        return max(waits)

    def enter(self, num_tokens: int, *, num_requests: int = 1) -> None:
        self.at_work += 1
        if self._requests is not None:
            self._requests.take(float(num_requests))
        if self._tokens is not None:
            self._tokens.take(float(num_tokens))

    def leave(self, expected_tokens: int, num_tokens: int | None, *, more_requests: int = 0) -> None:
        self.at_work -= 1
        if self._requests is not None:
            self._requests.take(float(more_requests))
        if self._tokens is not None and num_tokens is not None:
            self._tokens.take(float(num_tokens - expected_tokens))


class LocalLimiter:
    """A `Throttle` with a queue before it, for one event loop; implements `Limiter`."""

    def __init__(
        self,
        max_concurrency: int | None = None,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._throttle = Throttle(
            max_concurrency=max_concurrency,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            now_s=clock(),
        )
        self._queue: deque[tuple[asyncio.Future[Lease], int, int]] = deque()
        self._leases = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def at_work(self) -> int:
        """Leases that are out."""
        return self._throttle.at_work

    async def take(self, num_tokens: int, *, lease_s: float, num_requests: int = 1) -> Lease:
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._queue.append((turn, num_tokens, num_requests))
        self._pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(turn.result(), 0)
            raise

    def give_back(self, lease: Lease, num_tokens: int | None, *, more_requests: int = 0) -> None:
        self._throttle.leave(lease.num_tokens, num_tokens, more_requests=more_requests)
        self._pump()

    def _pump(self) -> None:
        """Lets go whoever may, in order; where the first must wait for the clock, looks again then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            turn, num_tokens, num_requests = self._queue[0]
            if turn.done():  # cancelled while it waited
                self._queue.popleft()
                continue
            wait_s = self._throttle.wait_s(num_tokens, self._clock(), num_requests=num_requests)
            if wait_s is None:
                return
            if wait_s > 0.0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._pump)
                return
            self._queue.popleft()
            self._leases += 1
            self._throttle.enter(num_tokens, num_requests=num_requests)
            turn.set_result(Lease(self._leases, num_tokens))
