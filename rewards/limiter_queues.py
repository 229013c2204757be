"""Limiters of many judges under their names, for callers that may die: leases that do not come back are taken back.

take(name) --> that judge's LocalLimiter --> number of a lease --give_back(number), or its time is over--> free again
"""

from __future__ import annotations

import asyncio
import itertools
import secrets

from rewards.limiter import Lease, LocalLimiter

Rates = tuple[int | None, int | None, int | None]
"""max_concurrency, requests_per_minute, tokens_per_minute."""


class LimiterQueues:
    """Plain asyncio; `rewards/service.py` makes it a Ray actor."""

    def __init__(self) -> None:
        self._limiters: dict[str, tuple[Rates, LocalLimiter]] = {}
        self._leases: dict[int, tuple[LocalLimiter, Lease, asyncio.TimerHandle]] = {}
        # From a random start: a number from before the actor was started again must not free somebody else's lease.
        self._numbers = itertools.count(secrets.randbits(60))
        self._waiting = 0
        self._came_s = 0.0

    def rates(self, name: str, rates: Rates) -> Rates:
        """The rates of this queue: those of whoever came first."""
        self._limiter(name, rates)
        return self._limiters[name][0]

    async def take(self, name: str, rates: Rates, num_tokens: int, lease_s: float) -> int:
        """Waits for a lease; its number."""
        limiter = self._limiter(name, rates)
        self._waiting += 1
        try:
            lease = await limiter.take(num_tokens, lease_s=lease_s)
        finally:
            self._waiting -= 1
        number = next(self._numbers)
        timer = asyncio.get_running_loop().call_later(lease_s, self.give_back, number, None)
        self._leases[number] = limiter, lease, timer
        return number

    def give_back(self, number: int, num_tokens: int | None) -> None:
        """A lease that is out no more is none."""
        if number not in self._leases:
            return
        limiter, lease, timer = self._leases.pop(number)
        timer.cancel()
        limiter.give_back(lease, num_tokens)

    def at_work(self, name: str) -> int:
        return self._limiters[name][1].at_work if name in self._limiters else 0

    async def idle(self, idle_s: float) -> None:
        """Returns when nobody has come for so long and no lease is out."""
        loop = asyncio.get_running_loop()
        self._came_s = loop.time()
        while (rest_s := self._came_s + idle_s - loop.time()) > 0 or self._leases or self._waiting:
            await asyncio.sleep(max(rest_s, idle_s / 10))

    def _limiter(self, name: str, rates: Rates) -> LocalLimiter:
        self._came_s = asyncio.get_running_loop().time()
        if name not in self._limiters:
            concurrency, requests, tokens = rates
            limiter = LocalLimiter(concurrency, requests_per_minute=requests, tokens_per_minute=tokens)
            self._limiters[name] = rates, limiter
        return self._limiters[name][1]
