"""The cluster's limiter: one Ray actor in which the judge calls of all runs on a cluster queue. A thin shell.

run A: ClusterLimiter.take --\\                           /--> queue "judge a"
run B: ClusterLimiter.take ----> actor `podium-limiter` ----> queue "judge b"    (rewards/limiter_queues.py)
run B: ClusterLimiter.give_back --/

The actor is started by whoever comes first, belongs to nobody, and ends by itself when no lease is out and nobody has
come for ten minutes; whoever comes then starts it again. A lease that is not given back in time, because its process
died, is taken back. Whoever is cancelled while it queues withdraws its ticket, whether or not its turn has come.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, cast

import ray
from ray.actor import exit_actor
from ray.exceptions import OutOfMemoryError, RayActorError

from rewards.config import CallLimits
from rewards.errors import UserError
from rewards.limiter import Lease
from rewards.limiter_queues import LimiterQueues, Rates

ACTOR, NAMESPACE = "podium-limiter", "podium"
IDLE_S = 600.0
RESTARTS = 10
"""How often a limiter that has ended is started again for one call, a tenth of a second apart."""


class _LimiterActor:
    """Coroutines all, so that Ray runs them in the actor's event loop."""

    def __init__(self, idle_s: float) -> None:
        self._queues = LimiterQueues()
        self._idle_s = idle_s

    async def rates(self, name: str, rates: Rates) -> Rates:
        return self._queues.rates(name, rates)

    async def take(
        self, ticket: int, name: str, rates: Rates, num_tokens: int, lease_s: float, num_requests: int
    ) -> None:
        await self._queues.take(ticket, name, rates, num_tokens, lease_s, num_requests)

    async def give_back(self, ticket: int, num_tokens: int | None, more_requests: int) -> None:
        self._queues.give_back(ticket, num_tokens, more_requests)

    async def withdraw(self, ticket: int) -> None:
        self._queues.withdraw(ticket)

    async def at_work(self, name: str) -> int:
        return self._queues.at_work(name)

    async def end_when_idle(self) -> None:
        await self._queues.idle(self._idle_s)
        exit_actor()


class ClusterLimiter:
    """A client of the cluster's limiter; implements `rewards.limiter.Limiter`. Made by `join`."""

    def __init__(self, name: str, rates: Rates, actor: Any) -> None:
        self._name = name
        self._rates = rates
        self._actor = actor

    @classmethod
    async def join(cls, name: str, calls: CallLimits) -> ClusterLimiter:
        """Joins the queue of that name on the Ray cluster that this process is connected to.

        Raises:
            UserError: another run on the cluster gave that name other limits.
        """
        rates = (calls.max_concurrency, calls.limits.requests_per_minute, calls.limits.tokens_per_minute)
        limiter = cls(name, rates, await asyncio.to_thread(_actor))
        found = tuple(await limiter._ask("rates", name, rates))
        if found != rates:
            kinds = ("calls.max_concurrency", "calls.limits.requests_per_minute", "calls.limits.tokens_per_minute")
            other = ", ".join(f"{kind} = {value}" for kind, value in zip(kinds, found, strict=True))
            raise UserError(
                f"rewards.calls.limits: other runs on this cluster share {name!r} with {other}; "
                "give the same, or another limits.name"
            )
        return limiter

    async def take(self, num_tokens: int, *, lease_s: float, num_requests: int = 1) -> Lease:
        # At random: a ticket must not be that of another run, nor one from before the actor was started again.
        ticket = secrets.randbits(62)
        try:
            await self._ask("take", ticket, self._name, self._rates, num_tokens, lease_s, num_requests)
        except asyncio.CancelledError:
            self._actor.withdraw.remote(ticket)
            raise
        return Lease(ticket, num_tokens)

    def give_back(self, lease: Lease, num_tokens: int | None, *, more_requests: int = 0) -> None:
        self._actor.give_back.remote(lease.id, num_tokens, more_requests)

    async def at_work(self) -> int:
        return await self._ask("at_work", self._name)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        """The actor's answer; an actor that has ended is started again."""
        for restart in range(RESTARTS):
            try:
                return await getattr(self._actor, method).remote(*arguments)
            except (RayActorError, OutOfMemoryError):
                if restart == RESTARTS - 1:
                    raise
                await asyncio.sleep(0.1)
                self._actor = await asyncio.to_thread(_actor)
        raise AssertionError("unreachable")


def _actor(idle_s: float = IDLE_S) -> Any:
    """The cluster's limiter, started where there is none."""
    options = {"name": ACTOR, "namespace": NAMESPACE, "get_if_exists": True, "lifetime": "detached", "num_cpus": 0}
    remote = cast(Any, ray.remote(_LimiterActor))  # Ray's types know a remote function there
    actor = remote.options(**options, max_concurrency=100_000).remote(idle_s)
    actor.end_when_idle.remote()
    return actor
