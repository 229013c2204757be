"""One group's tournament: candidates arrive, the topology says who can play, calls run, results come back.

add / close ----wake---+
                       v
call finished --wake--> play(): results -> playable(state) -> one task per call -> (Caller, shared limiter)
                          |
                          +-- returns when nobody else arrives, nothing is in flight and nothing is playable
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from rewards.budget import least_played_first
from rewards.calling import Caller
from rewards.errors import UserError
from rewards.types import (
    Call,
    Candidate,
    Gate,
    GroupKey,
    Judge,
    Match,
    MatchLog,
    Pairing,
    Prompt,
    TournamentState,
)

PriorScorer = Callable[[Prompt, Candidate], float]
"""What a cheap look says of a candidate before any match; higher is better."""


class Tournament:
    """State and play of one group. `play` runs as one task; everything else is called from the same event loop."""

    def __init__(
        self,
        key: GroupKey,
        prompt: Prompt,
        num_candidates: int,
        gates: Sequence[Gate],
        *,
        seed: int,
        prior_scorer: PriorScorer | None = None,
    ) -> None:
        self.key = key
        self.num_candidates = num_candidates
        self.gate_failures: dict[str, list[int]] = {gate.name: [] for gate in gates}
        self.vetoed: set[int] = set()
        self._prompt = prompt
        self._gates = gates
        self._seed = group_seed(seed, key)
        self._candidates: dict[int, Candidate] = {}
        self._prior_scorer = prior_scorer
        self._prior_scores: dict[int, float] = {}
        self._closed = False
        self._results: dict[Pairing, float | None] = {}
        self._matches: dict[Pairing, Match] = {}
        self._wake = asyncio.Event()

    def add(self, index: int, candidate: Candidate) -> None:
        if not 0 <= index < self.num_candidates:
            raise ValueError(f"group {self.key}: slot {index} of a group of {self.num_candidates}")
        if self._closed:
            raise ValueError(f"group {self.key}: slot {index} arrived after the group was closed")
        if index in self._candidates or index in self.vetoed:
            raise ValueError(f"group {self.key}: slot {index} arrived twice")
        failed = [gate.name for gate in self._gates if gate.check(self._prompt, candidate) is not None]
        for name in failed:
            self.gate_failures[name].append(index)
        if failed:
            self.vetoed.add(index)
        else:
            if self._prior_scorer is not None:
                self._prior_scores[index] = prior_score(self._prior_scorer, self._prompt, candidate)
            self._candidates[index] = candidate
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    @property
    def num_calls(self) -> int:
        """Calls that were asked and answered, or failed."""
        return sum(len(match.calls) for match in self._matches.values())

    @property
    def survivors(self) -> frozenset[int]:
        """Slots that arrived and passed every gate."""
        return frozenset(self._candidates)

    @property
    def matches(self) -> tuple[Match, ...]:
        """In an order that does not depend on who answered first."""
        played = sorted(self._matches, key=lambda pairing: (pairing.round, pairing.a, pairing.b))
        return tuple(self._matches[pairing] for pairing in played)

    def failures(self) -> Counter[str]:
        """Calls without a verdict, by cause."""
        calls = (call for match in self._matches.values() for call in match.calls)
        return Counter(call.verdict.failure for call in calls if call.verdict.failure is not None)

    @property
    def state(self) -> TournamentState:
        """What a topology may look at now."""
        complete = self._closed or len(self._candidates) + len(self.vetoed) == self.num_candidates
        return TournamentState(
            self.num_candidates, self.survivors, complete, self._results, self._seed, self._prior_scores
        )

    def log(self, judge: Judge) -> MatchLog:
        return MatchLog(self.num_candidates, judge.kind, self.matches, judge.symmetric)

    async def play(
        self,
        playable: Callable[[TournamentState], list[Pairing]],
        judge: Judge,
        caller: Caller,
        orders: Literal["first", "random", "both"],
        on_call: Callable[[GroupKey, Call], None] | None,
        *,
        max_matches: int | None = None,
    ) -> None:
        """Plays until everybody is there and nothing is playable.

        A call's exception, JudgeFailure apart, cancels the rest and surfaces.

        Args:
            max_matches: start no more than these, once everybody is there, those first who have played least.
        """
        running: dict[asyncio.Task[Call], Pairing] = {}
        calls: dict[Pairing, list[asyncio.Task[Call]]] = {}
        try:
            while True:
                self._wake.clear()
                for task, pairing in [(task, pairing) for task, pairing in running.items() if task.done()]:
                    del running[task]
                    call = task.result()
                    if on_call is not None:
                        on_call(self.key, call)
                    if all(asked not in running for asked in calls[pairing]):
                        match = Match(pairing, tuple(asked.result() for asked in calls[pairing]))
                        self._matches[pairing] = match
                        self._results[pairing] = match.result(judge.kind)
                state = self.state
                named = [pairing for pairing in dict.fromkeys(playable(state)) if pairing not in calls]
                if max_matches is not None:
                    named = least_played_first(
                        named if state.closed else [],
                        {**self._matches, **calls},
                        num_matches=max_matches - len(calls),
                        seed=self._seed,
                    )
                for pairing in named:
                    seatings = self._seats(pairing, judge, orders)
                    calls[pairing] = [self._start(caller, pairing, seats) for seats in seatings]
                    running.update(dict.fromkeys(calls[pairing], pairing))
                if state.closed and not running:
                    return
                await self._wake.wait()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _start(self, caller: Caller, pairing: Pairing, seats: tuple[int, int]) -> asyncio.Task[Call]:
        candidates = (self._candidates[seats[0]], self._candidates[seats[1]])
        seed = _hash(self._seed, pairing.a, pairing.b, pairing.round, seats[0])
        task = asyncio.create_task(caller.call(self._prompt, candidates, seats, seed))
        task.add_done_callback(lambda _: self._wake.set())
        return task

    def _seats(self, pairing: Pairing, judge: Judge, orders: str) -> list[tuple[int, int]]:
        forward, backward = (pairing.a, pairing.b), (pairing.b, pairing.a)
        if judge.symmetric or orders == "first":
            return [forward]
        if orders == "both":
            return [forward, backward]
        coin = _hash(self._seed, pairing.a, pairing.b, pairing.round) % 2
        return [backward if coin else forward]


def prior_score(scorer: PriorScorer, prompt: Prompt, candidate: Candidate) -> float:
    """Raises UserError where the scorer gives something that is not a finite number."""
    value = scorer(prompt, candidate)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"rewards.prior_scorer: a prior score is a finite number, got {value!r} for {candidate.id}")
    return float(value)


def group_seed(seed: int, key: GroupKey) -> int:
    """Seed of a group's tournament: the same in every process."""
    return _hash(seed, key.group_id, key.attempt)


def _hash(*parts: object) -> int:
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big")
