"""Limiters of many judges under their names, for callers that may die: leases that do not come back are taken back.

take(ticket, name) --> that judge's LocalLimiter --> a lease --give_back(ticket), or its time is over--> free again
withdraw(ticket): its caller is gone: out of the queue, or, if the lease was granted meanwhile, that is given back

The caller draws the ticket, so that it can withdraw it without having had an answer.
"""

from __future__ import annotations

import asyncio

from rewards.limiter import Lease, LocalLimiter

Rates = tuple[int | None, int | None, int | None]
"""max_concurrency, requests_per_minute, tokens_per_minute."""
OVERTAKEN_S = 60.0
"""How long a withdrawal is remembered that came before its ticket did: messages may overtake each other."""


class LimiterQueues:
    """Plain asyncio; `rewards/service.py` makes it a Ray actor."""

    def __init__(self) -> None:
        self._limiters: dict[str, tuple[Rates, LocalLimiter]] = {}
        self._leases: dict[int, tuple[LocalLimiter, Lease, asyncio.TimerHandle]] = {}
        self._waiting: dict[int, asyncio.Task[Lease]] = {}
        self._withdrawn: set[int] = set()
        self._came_s = 0.0

    def rates(self, name: str, rates: Rates) -> Rates:
        """The rates of this queue: those of whoever came first."""
        self._limiter(name, rates)
        return self._limiters[name][0]

    async def take(
        self, ticket: int, name: str, rates: Rates, num_tokens: int, lease_s: float, num_requests: int = 1
    ) -> None:
        """Waits for a lease, which goes by the number of its ticket.

        Raises:
            asyncio.CancelledError: the ticket was withdrawn.
        """
        limiter = self._limiter(name, rates)
        turn = self._waiting[ticket] = asyncio.ensure_future(
            limiter.take(num_tokens, lease_s=lease_s, num_requests=num_requests)
        )
        if ticket in self._withdrawn:
            turn.cancel()
        try:
            lease = await turn
        finally:
            del self._waiting[ticket]
        timer = asyncio.get_running_loop().call_later(lease_s, self.give_back, ticket, None)
        self._leases[ticket] = limiter, lease, timer

    def give_back(self, ticket: int, num_tokens: int | None, more_requests: int = 0) -> None:
        """A lease that is out no more is none."""
        if ticket not in self._leases:
            return
        limiter, lease, timer = self._leases.pop(ticket)
        timer.cancel()
        limiter.give_back(lease, num_tokens, more_requests=more_requests)

    def withdraw(self, ticket: int) -> None:
        """Its caller does not wait for it any more, and will not use it."""
        if ticket in self._leases:
            self.give_back(ticket, 0)
        elif ticket in self._waiting:
            self._waiting[ticket].cancel()
        else:
            self._withdrawn.add(ticket)
            asyncio.get_running_loop().call_later(OVERTAKEN_S, self._withdrawn.discard, ticket)

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
