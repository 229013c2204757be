"""One judge call with everything that can go wrong: seats in, a `Call` or a `Ranking` out, failures as missing ones.

call --cache: known?--> that verdict, at no cost
     --purse: money left?--no--> None: not asked
     --outage: judge up?--> limiter: a place, a rate --> the judge, within its deadline --> reply, or the next attempt
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import numpy as np

from rewards.budget import Purse
from rewards.cache import Asked, JudgeMemory
from rewards.config import CallLimits
from rewards.errors import JudgeFailure, UserError
from rewards.limiter import Limiter
from rewards.outage import Outage
from rewards.types import (
    Call,
    Candidate,
    Judge,
    ListJudge,
    Places,
    Prompt,
    Ranking,
    Slate,
    Verdict,
    VerdictKind,
    requests_per_call,
)

Reply = TypeVar("Reply", Verdict, Places)

MAX_WAIT_S = 300.0
"""Longest pause between two attempts, whatever a server asks for."""
MAX_DOUBLINGS = 16
CHARACTERS_PER_TOKEN = 4.0
"""For the first calls, before the judge has said what they take."""
MAX_SCORE = 1e100
"""Of a `score` verdict, whatever its units: squares of larger ones overflow."""
LEASE_SLACK_S = 30.0
"""A place is held to be lost when its call should have ended so long ago."""


@dataclass(frozen=True, slots=True)
class Line:
    """What all callers of one judge share.

    memory: verdicts that need not be asked for again. outage: whether the judge is down; None: each caller finds out.
    """

    memory: JudgeMemory | None = None
    outage: Outage | None = None


class Caller:
    """Calls a judge within limits. Only `JudgeFailure` and the deadline become missing verdicts; the rest is a bug.

    The limiter is held while the judge works and free while a call waits for its next attempt.

    Args:
        line: what this caller shares with others of the same judge.
        purse: says when tokens and money are spent; calls are counted out by whoever makes them.
    """

    def __init__(
        self,
        judge: Judge | ListJudge,
        limits: CallLimits,
        limiter: Limiter,
        *,
        line: Line = Line(),
        purse: Purse | None = None,
    ) -> None:
        self._judge = judge
        self._num_requests = requests_per_call(judge)
        self._limits = limits
        self._limiter = limiter
        self._memory = line.memory
        self._purse = purse
        self._outage = line.outage or Outage(judge.name, limits.down_after_s)
        self._mean_tokens: float | None = None

    async def call(
        self,
        prompt: Prompt,
        candidates: tuple[Candidate, Candidate],
        seats: tuple[int, int],
        seed: int,
        *,
        meeting: int = 0,
    ) -> Call | None:
        """Asks about `candidates` in this order until there is a verdict or no attempt is left.

        Args:
            seats: the candidates' slots in their group.
            seed: of the jitter between attempts.
            meeting: how often these two met before in their group.

        Returns:
            None: it was not asked, because the budget of tokens or money is spent.

        Raises:
            UserError: the judge's number is not what its kind allows.
            RunStopped: the judge is down (see `Outage`), for longer than the limits allow.
        """
        judge = cast(Judge, self._judge)

        def check(verdict: Verdict) -> None:
            if verdict.value is not None:
                check_value(verdict.value, judge.kind, judge.name)

        answer = await self._answer(
            "pair", prompt, candidates, meeting, lambda: judge.compare(prompt, *candidates), check=check, seed=seed
        )
        if answer is None:
            return None
        if answer.failure is not None:
            verdict = Verdict(None, answer.failure.cause, answer.failure.detail)
        else:
            verdict = answer.reply
            assert verdict is not None
        verdict = replace(
            verdict,
            attempts=answer.attempts,
            latency_s=answer.latency_of(verdict),
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost=answer.cost,
            written=answer.written,
        )
        return Call(*seats, verdict, judge.name)

    async def rank(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        slate: Slate,
        shown: tuple[int, ...],
        seed: int,
        *,
        meeting: int = 0,
    ) -> Ranking | None:
        """Asks for the places of `candidates`, whose slots are `shown`; otherwise as `call`.

        Raises:
            UserError: the judge gave more or fewer places than it was shown candidates.
        """
        judge = cast(ListJudge, self._judge)

        def check(said: Places) -> None:
            if len(said.places) != len(shown):
                raise UserError(f"judge {judge.name}: a place per candidate, {len(shown)}, got {said.places!r}")

        answer = await self._answer(
            "slate", prompt, candidates, meeting, lambda: judge.rank(prompt, candidates), check=check, seed=seed
        )
        if answer is None:
            return None
        said, failure = answer.reply, answer.failure
        return Ranking(
            slate,
            shown,
            None if said is None else said.places,
            judge.name,
            None if failure is None else failure.cause,
            reason=said.reason if said is not None else failure.detail if failure is not None else "",
            latency_s=answer.latency_of(said),
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost=answer.cost,
            attempts=answer.attempts,
        )

    async def _answer(
        self,
        asked: Asked,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        meeting: int,
        attempt: Callable[[], Awaitable[Reply]],
        *,
        check: Callable[[Reply], None],
        seed: int,
    ) -> _Answer[Reply] | None:
        characters = len(prompt.text) + sum(len(candidate.text) for candidate in candidates)
        if self._memory is None:
            return await self._ask(attempt, check, characters, seed)
        key = self._memory.key(asked, prompt, candidates, meeting)
        async with self._memory.cache.asking(key) as found:
            if found is not None:
                reply = cast(Reply, found)
                check(reply)
                return _Answer(reply, None)
            answer = await self._ask(attempt, check, characters, seed)
            if answer is not None and answer.reply is not None and _has_value(answer.reply):
                self._memory.cache.keep(key, answer.reply, self._judge.name)
            return answer

    async def _ask(
        self, attempt: Callable[[], Awaitable[Reply]], check: Callable[[Reply], None], characters: int, seed: int
    ) -> _Answer[Reply] | None:
        """Attempt after attempt; what each took is summed up."""
        answer = _Answer[Reply](None, None)
        while True:
            try:
                reply = await self._attempt(attempt, answer, characters)
                if reply is None:
                    return None
                self._outage.replied()
                check(reply)
                answer.ended(reply, None)
                break
            except JudgeFailure as failure:
                answer.ended(None, failure)
                self._outage.failed(failure, time.monotonic())
                is_last = answer.attempts >= self._limits.max_attempts and not self._outage.is_down
                if is_last or not failure.retryable:
                    break
                if not self._outage.is_down:  # else the door says when
                    jitter = np.random.default_rng((seed, answer.attempts)).uniform(0.5, 1.5)
                    wait_s = self._limits.backoff_s * 2 ** min(answer.attempts - 1, MAX_DOUBLINGS) * jitter
                    await asyncio.sleep(min(MAX_WAIT_S, max(wait_s, failure.retry_after_s or 0.0)))
        if self._purse is not None:
            self._purse.paid(answer.tokens_in + answer.tokens_out, answer.cost, calls=1 + answer.written)
        return answer

    async def _attempt(
        self, attempt: Callable[[], Awaitable[Reply]], answer: _Answer[Reply], characters: int
    ) -> Reply | None:
        """One attempt's reply; None where it may not be made."""
        first = characters / CHARACTERS_PER_TOKEN * self._num_requests
        expected = round(self._mean_tokens if self._mean_tokens is not None else first)
        async with self._outage.door():
            lease = await self._limiter.take(
                expected, lease_s=self._limits.timeout_s + LEASE_SLACK_S, num_requests=self._num_requests
            )
            took: int | None = None
            written = 0
            try:
                if self._purse is not None and not self._purse.may_ask() and answer.attempts == 0:
                    took = 0
                    return None
                answer.started_s = time.perf_counter()
                deadline = asyncio.timeout(self._limits.timeout_s)
                try:
                    with self._purse.asking() if self._purse is not None else nullcontext():
                        async with deadline:
                            reply = await attempt()
                    took, written = reply.tokens_in + reply.tokens_out, _written(reply)
                    return reply
                except TimeoutError:
                    if not deadline.expired():
                        raise  # The judge's own, not ours.
                    raise JudgeFailure("timeout", f"no verdict within {self._limits.timeout_s:g} s") from None
                except JudgeFailure as failure:
                    took, written = (failure.tokens_in + failure.tokens_out) or None, failure.written
                    raise
            finally:
                self._limiter.give_back(lease, took, more_requests=written)
                if took:
                    self._mean_tokens = took if self._mean_tokens is None else 0.9 * self._mean_tokens + 0.1 * took


@dataclass(slots=True)
class _Answer(Generic[Reply]):
    """The last attempt's outcome, a reply or a failure, and what all attempts took; none: it came from the cache."""

    reply: Reply | None
    failure: JudgeFailure | None
    started_s: float = 0.0
    """Of the last attempt, once its turn had come."""
    latency_s: float = 0.0
    attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    written: int = 0

    def ended(self, reply: Reply | None, failure: JudgeFailure | None) -> None:
        self.reply, self.failure = reply, failure
        self.latency_s = time.perf_counter() - self.started_s
        self.attempts += 1
        took = reply if reply is not None else failure
        assert took is not None
        self.tokens_in += took.tokens_in
        self.tokens_out += took.tokens_out
        self.cost += took.cost
        self.written += _written(took)

    def latency_of(self, reply: Reply | None) -> float:
        """What the judge says its last attempt took, else what we saw; nothing for an answer from the cache."""
        return (reply.latency_s if reply is not None and self.attempts else 0.0) or self.latency_s


def _written(took: Verdict | Places | JudgeFailure) -> int:
    """Requests beside those of the call itself, that wrote criteria."""
    return 0 if isinstance(took, Places) else took.written


def _has_value(reply: Verdict | Places) -> bool:
    return isinstance(reply, Places) or reply.value is not None


def check_value(value: float, kind: VerdictKind, judge: str) -> None:
    """Raises UserError unless the number is one that this kind of verdict can have."""
    allowed = {
        "hard": (value in (0.0, 0.5, 1.0), "1, 0.5 or 0"),
        "probability": (0.0 <= value <= 1.0, "a number in [0, 1]"),
        "score": (abs(value) <= MAX_SCORE, f"a number from -{MAX_SCORE:g} to {MAX_SCORE:g}"),
    }
    fits, rule = allowed[kind]
    if not fits:
        raise UserError(f"judge {judge}: a {kind} verdict is {rule}, got {value!r}")
