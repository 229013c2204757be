"""One judge call with everything that can go wrong: seats in, a `Call` out, failures as missing verdicts."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

import numpy as np

from rewards.config import CallLimits
from rewards.errors import JudgeFailure, UserError
from rewards.types import Call, Candidate, Judge, Prompt, Verdict, VerdictKind

MAX_WAIT_S = 300.0
"""Longest pause between two attempts, whatever a server asks for."""


class Caller:
    """Calls a judge within limits. Only `JudgeFailure` and the deadline become missing verdicts; the rest is a bug.

    The limiter is held while the judge works and free while a call waits for its next attempt.
    """

    def __init__(self, judge: Judge, limits: CallLimits, limiter: asyncio.Semaphore) -> None:
        self._judge = judge
        self._limits = limits
        self._limiter = limiter

    async def call(
        self, prompt: Prompt, candidates: tuple[Candidate, Candidate], seats: tuple[int, int], seed: int
    ) -> Call:
        """Asks about `candidates` in this order until there is a verdict or no attempt is left.

        Args:
            seats: the candidates' slots in their group.
            seed: of the jitter between attempts.

        Raises:
            UserError: the judge's number is not what its kind allows.
        """
        attempt = 0
        while True:
            attempt += 1
            started_s = time.perf_counter()
            try:
                verdict = await self._attempt(prompt, *candidates)
                latency_s = verdict.latency_s or time.perf_counter() - started_s
                return self._as_call(seats, replace(verdict, attempts=attempt, latency_s=latency_s))
            except JudgeFailure as failure:
                if attempt >= self._limits.max_attempts or not failure.retryable:
                    latency_s = time.perf_counter() - started_s
                    missing = Verdict(None, failure.cause, failure.detail, latency_s=latency_s, attempts=attempt)
                    return self._as_call(seats, missing)
                jitter = np.random.default_rng((seed, attempt)).uniform(0.5, 1.5)
                wait_s = self._limits.backoff_s * 2 ** (attempt - 1) * jitter
                await asyncio.sleep(min(MAX_WAIT_S, max(wait_s, failure.retry_after_s or 0.0)))

    async def _attempt(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        async with self._limiter:
            deadline = asyncio.timeout(self._limits.timeout_s)
            try:
                async with deadline:
                    verdict = await self._judge.compare(prompt, first, second)
            except TimeoutError:
                if not deadline.expired():
                    raise  # The judge's own, not ours.
                raise JudgeFailure("timeout", f"no verdict within {self._limits.timeout_s:g} s") from None
        if verdict.value is not None:
            check_value(verdict.value, self._judge.kind, self._judge.name)
        return verdict

    def _as_call(self, seats: tuple[int, int], verdict: Verdict) -> Call:
        return Call(seats[0], seats[1], verdict, self._judge.name)


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
