"""One judge call with everything that can go wrong: seats in, a `Call` or a `Ranking` out, failures as missing ones."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import numpy as np

from rewards.config import CallLimits
from rewards.errors import JudgeFailure, UserError
from rewards.outage import Outage
from rewards.types import Call, Candidate, Judge, ListJudge, Prompt, Ranking, Slate, Verdict, VerdictKind

Reply = TypeVar("Reply")

MAX_WAIT_S = 300.0
"""Longest pause between two attempts, whatever a server asks for."""
MAX_DOUBLINGS = 16
MIN_PROBE_S, MAX_PROBE_S = 0.05, 20.0
"""Pauses while the judge is down: short enough to notice that it is back."""


class Caller:
    """Calls a judge within limits. Only `JudgeFailure` and the deadline become missing verdicts; the rest is a bug.

    The limiter is held while the judge works and free while a call waits for its next attempt.
    """

    def __init__(self, judge: Judge | ListJudge, limits: CallLimits, limiter: asyncio.Semaphore) -> None:
        self._judge = judge
        self._limits = limits
        self._limiter = limiter
        self._outage = Outage(judge.name, limits.down_after_s)

    async def call(
        self, prompt: Prompt, candidates: tuple[Candidate, Candidate], seats: tuple[int, int], seed: int
    ) -> Call:
        """Asks about `candidates` in this order until there is a verdict or no attempt is left.

        Args:
            seats: the candidates' slots in their group.
            seed: of the jitter between attempts.

        Raises:
            UserError: the judge's number is not what its kind allows.
            RunStopped: the judge is down (see `Outage`), for longer than the limits allow.
        """
        judge = cast(Judge, self._judge)
        answer = await self._ask(lambda: judge.compare(prompt, *candidates), seed)
        if answer.failure is not None:
            verdict = Verdict(None, answer.failure.cause, answer.failure.detail)
        else:
            verdict = answer.reply
            assert verdict is not None
            if verdict.value is not None:
                check_value(verdict.value, judge.kind, judge.name)
        latency_s = verdict.latency_s or answer.latency_s
        return Call(*seats, replace(verdict, attempts=answer.attempts, latency_s=latency_s), judge.name)

    async def rank(
        self, prompt: Prompt, candidates: Sequence[Candidate], slate: Slate, shown: tuple[int, ...], seed: int
    ) -> Ranking:
        """Asks for the places of `candidates`, whose slots are `shown`; otherwise as `call`.

        Raises:
            UserError: the judge gave more or fewer places than it was shown candidates.
        """
        judge = cast(ListJudge, self._judge)
        answer = await self._ask(lambda: judge.rank(prompt, candidates), seed)
        if answer.failure is not None:
            cause, detail = answer.failure.cause, answer.failure.detail
            return Ranking(
                slate, shown, None, judge.name, cause, detail, latency_s=answer.latency_s, attempts=answer.attempts
            )
        said = answer.reply
        assert said is not None
        if len(said.places) != len(shown):
            raise UserError(f"judge {judge.name}: a place per candidate, {len(shown)}, got {said.places!r}")
        return Ranking(
            slate,
            shown,
            said.places,
            judge.name,
            reason=said.reason,
            latency_s=said.latency_s or answer.latency_s,
            tokens_in=said.tokens_in,
            tokens_out=said.tokens_out,
            cost=said.cost,
            attempts=answer.attempts,
        )

    async def _ask(self, attempt: Callable[[], Awaitable[Reply]], seed: int) -> _Answer[Reply]:
        attempts = 0
        while True:
            attempts += 1
            started_s = time.perf_counter()
            try:
                reply = await self._attempt(attempt)
                self._outage.replied()
                return _Answer(reply, None, time.perf_counter() - started_s, attempts)
            except JudgeFailure as failure:
                self._outage.failed(failure, time.monotonic())
                is_last = attempts >= self._limits.max_attempts and not self._outage.is_down
                if is_last or not failure.retryable:
                    return _Answer(None, failure, time.perf_counter() - started_s, attempts)
                jitter = np.random.default_rng((seed, attempts)).uniform(0.5, 1.5)
                wait_s = self._limits.backoff_s * 2 ** min(attempts - 1, MAX_DOUBLINGS) * jitter
                most_s = MAX_WAIT_S
                if self._outage.is_down:
                    wait_s, most_s = max(wait_s, MIN_PROBE_S), MAX_PROBE_S
                await asyncio.sleep(min(most_s, max(wait_s, failure.retry_after_s or 0.0)))

    async def _attempt(self, attempt: Callable[[], Awaitable[Reply]]) -> Reply:
        async with self._limiter:
            deadline = asyncio.timeout(self._limits.timeout_s)
            try:
                async with deadline:
                    return await attempt()
            except TimeoutError:
                if not deadline.expired():
                    raise  # The judge's own, not ours.
                raise JudgeFailure("timeout", f"no verdict within {self._limits.timeout_s:g} s") from None


@dataclass(frozen=True, slots=True)
class _Answer(Generic[Reply]):
    """The last attempt's outcome: a reply or a failure, exactly one of the two."""

    reply: Reply | None
    failure: JudgeFailure | None
    latency_s: float
    attempts: int


def check_value(value: float, kind: VerdictKind, judge: str) -> None:
    """Raises UserError unless the number is one that this kind of verdict can have."""
    allowed = {
        "hard": (value in (0.0, 0.5, 1.0), "1, 0.5 or 0"),
        "probability": (0.0 <= value <= 1.0, "a number in [0, 1]"),
        "score": (math.isfinite(value), "a finite number"),
    }
    fits, rule = allowed[kind]
    if not fits:
        raise UserError(f"judge {judge}: a {kind} verdict is {rule}, got {value!r}")
