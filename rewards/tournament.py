"""One group's tournament: candidates arrive, the topology says who can play, calls run, results come back.

add --gates (a task where one waits)--+
close ----wake---------+<-------------+
                       v
call finished --wake--> play(), play_slates(): results -> playable(state) -> one task per call (asking.py)
                          |
                          +-- returns when nobody else arrives, nothing is in flight and nothing is playable
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from rewards.asking import Asker
from rewards.budget import Quota, members_of
from rewards.errors import UserError
from rewards.gates.examine import Examination, examine
from rewards.play_loop import play_loop
from rewards.router import Router
from rewards.seating import merged_tiers, stable_hash
from rewards.types import (
    AnyGate,
    Call,
    CallHandler,
    Candidate,
    GroupKey,
    Match,
    MatchLog,
    Merge,
    Pairing,
    Prompt,
    Ranking,
    Slate,
    TournamentState,
    VerdictKind,
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
        gates: Sequence[AnyGate],
        *,
        seed: int,
        prior_scorer: PriorScorer | None = None,
        router: Router | None = None,
    ) -> None:
        self.key = key
        self.num_candidates = num_candidates
        self.gate_failures: dict[str, list[int]] = {gate.name: [] for gate in gates}
        self.gate_scores: dict[int, Mapping[str, float]] = {}
        self.vetoed: set[int] = set()
        self.prompt = prompt
        self._gates = gates
        self._seed = group_seed(seed, key)
        self._candidates: dict[int, Candidate] = {}
        self._checking: dict[int, asyncio.Task[None]] = {}
        self._prior_scorer = prior_scorer
        self._router = router
        self._prior_scores: dict[int, float] = {}
        self._closed = False
        self._results: dict[Pairing, float | None] = {}
        self._matches: dict[Pairing, Match] = {}
        self._rankings: dict[Slate, tuple[Ranking, ...]] = {}
        self._tiers: dict[Slate, tuple[tuple[int, ...], ...]] = {}
        self._asked: dict[Pairing | Slate, int] = {}
        self._meetings: Counter[tuple[int, ...]] = Counter()
        self._wake = asyncio.Event()

    def add(self, index: int, candidate: Candidate) -> None:
        if not 0 <= index < self.num_candidates:
            raise ValueError(f"group {self.key}: slot {index} of a group of {self.num_candidates}")
        if self._closed:
            raise ValueError(f"group {self.key}: slot {index} arrived after the group was closed")
        if index in self._candidates or index in self.vetoed or index in self._checking:
            raise ValueError(f"group {self.key}: slot {index} arrived twice")
        found = examine(self._gates, self.prompt, candidate)
        if isinstance(found, Examination):
            self._admit(index, candidate, found)
        else:
            self._checking[index] = asyncio.create_task(self._check(index, candidate, found))
        self._wake.set()

    async def _check(self, index: int, candidate: Candidate, found: Awaitable[Examination]) -> None:
        """Stays among `_checking` when it fails, so that `play` finds it there and raises."""
        try:
            self._admit(index, candidate, await found)
            del self._checking[index]
        finally:
            self._wake.set()

    def _admit(self, index: int, candidate: Candidate, found: Examination) -> None:
        for name in found.failed:
            self.gate_failures[name].append(index)
        self.gate_scores[index] = found.scores
        if found.failed:
            self.vetoed.add(index)
            return
        if self._prior_scorer is not None:
            self._prior_scores[index] = prior_score(self._prior_scorer, self.prompt, candidate)
        self._candidates[index] = candidate

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def unfinished(self) -> list[str]:
        """Matches and slates that the judge has not settled yet, and gates at work, as a watchdog names them."""
        waiting = [f"gates of {self.key}/{index}" for index in self._checking]
        return waiting + [f"match {self.key}: {' against '.join(map(str, members_of(asked)))}" for asked in self._asked]

    async def stop_checks(self) -> None:
        """Cancels the gates that are still at work; nothing of ours runs afterwards."""
        await asyncio.sleep(0)  # Lets those begin that have not: a coroutine that never ran would complain.
        for task in self._checking.values():
            task.cancel()
        await asyncio.gather(*self._checking.values(), return_exceptions=True)

    @property
    def num_calls(self) -> int:
        """Calls that were asked and answered, or failed."""
        return sum(not call.is_routed for match in self._matches.values() for call in match.calls) + len(self.rankings)

    @property
    def num_written(self) -> int:
        """Calls beside those that wrote criteria; none where the cache knew the verdict."""
        calls = (call.verdict for match in self._matches.values() for call in match.calls)
        return sum(verdict.written for verdict in calls)

    @property
    def candidates(self) -> Mapping[int, Candidate]:
        """By slot, those that play."""
        return self._candidates

    async def complete(self) -> None:
        """Waits until nobody else will arrive. Only before `play`, and by whoever plays."""
        while True:
            self._wake.clear()
            self._raise_failed_checks()
            if self.state.closed:
                return
            await self._wake.wait()

    @property
    def num_cached(self) -> int:
        """Calls that the cache answered."""
        calls = (call for match in self._matches.values() for call in match.calls)
        attempts = [call.verdict.attempts for call in calls if not call.is_routed]
        return [*attempts, *(ranking.attempts for ranking in self.rankings)].count(0)

    @property
    def survivors(self) -> frozenset[int]:
        """Slots that arrived and passed every gate."""
        return frozenset(self._candidates)

    @property
    def matches(self) -> tuple[Match, ...]:
        """In an order that does not depend on who answered first."""
        played = sorted(self._matches, key=lambda pairing: (pairing.round, pairing.a, pairing.b))
        return tuple(self._matches[pairing] for pairing in played)

    @property
    def rankings(self) -> tuple[Ranking, ...]:
        """In an order that does not depend on who answered first."""
        played = sorted(self._rankings, key=lambda slate: (slate.round, slate.members))
        return tuple(ranking for slate in played for ranking in self._rankings[slate])

    def failures(self) -> Counter[str]:
        """Calls without a verdict, by cause."""
        causes = [call.verdict.failure for match in self._matches.values() for call in match.calls]
        causes += [ranking.failure for ranking in self.rankings]
        return Counter(cause for cause in causes if cause is not None)

    @property
    def state(self) -> TournamentState:
        """What a topology may look at now."""
        all_here = len(self._candidates) + len(self.vetoed) == self.num_candidates
        complete = all_here or (self._closed and not self._checking)
        return TournamentState(
            self.num_candidates, self.survivors, complete, self._results, self._seed, self._prior_scores, self._tiers
        )

    def log(self, kind: VerdictKind, symmetric: bool, merge: Merge) -> MatchLog:
        return MatchLog(self.num_candidates, kind, self.matches, symmetric, self.rankings, merge)

    async def play(
        self,
        playable: Callable[[TournamentState], list[Pairing]],
        asker: Asker,
        on_call: CallHandler | None,
        *,
        max_items: int | None = None,
    ) -> None:
        """Plays until everybody is there and nothing is playable.

        A call's exception, JudgeFailure apart, cancels the rest and surfaces.

        Args:
            max_items: start no more matches than these, once everybody is there, those first who have played least.
        """
        quota = Quota(max_items, self._matches, seed=self._seed)

        def look() -> tuple[Sequence[Pairing], bool]:
            self._raise_failed_checks()
            state = self.state
            pairings = playable(state)
            free = [pairing for pairing in pairings if self._decided(pairing) is not None]
            costly = [pairing for pairing in pairings if pairing not in free] if free else pairings
            return [*free, *quota.choose(costly, state.closed)], state.closed

        def ask(pairing: Pairing) -> list[Coroutine[Any, Any, Call | None]]:
            value = self._decided(pairing)
            if value is not None and self._router is not None:
                self._asked[pairing] = 0
                calls = self._router.calls(
                    pairing,
                    value,
                    calls_per_item=asker.calls_per_item,
                    symmetric=asker.symmetric,
                    seed=self._seed,
                )
                return [_itself(call) for call in calls]
            meeting = self._asked[pairing] = self._meeting(pairing)
            return asker.first_calls(self.prompt, self._candidates, pairing, self._seed, meeting)

        def more(pairing: Pairing, calls: Sequence[Call]) -> list[Coroutine[Any, Any, Call | None]]:
            if self._decided(pairing) is not None:
                return []
            meeting = self._asked[pairing]
            return asker.more_calls(self.prompt, self._candidates, pairing, calls, self._seed, meeting)

        def settle(pairing: Pairing, calls: tuple[Call, ...]) -> None:
            del self._asked[pairing]
            if not calls:
                return  # The budget was spent before it was asked: no match, and not one without a verdict either.
            self._matches[pairing] = match = Match(pairing, calls)
            self._results[pairing] = asker.result(match)

        await play_loop(self._wake, look=look, ask=ask, more=more, told=self._teller(on_call), settle=settle)

    async def play_slates(
        self,
        playable: Callable[[TournamentState], list[Slate]],
        asker: Asker,
        on_call: CallHandler | None,
        *,
        max_items: int | None = None,
    ) -> None:
        """`play` for slates: one call ranks all of one."""
        quota = Quota(max_items, self._rankings, seed=self._seed)

        def look() -> tuple[Sequence[Slate], bool]:
            self._raise_failed_checks()
            state = self.state
            return quota.choose(playable(state), state.closed), state.closed

        def ask(slate: Slate) -> list[Coroutine[Any, Any, Ranking | None]]:
            meeting = self._asked[slate] = self._meeting(slate)
            return asker.rankings(self.prompt, self._candidates, slate, self._seed, meeting)

        def settle(slate: Slate, calls: tuple[Ranking, ...]) -> None:
            del self._asked[slate]
            if not calls:
                return
            self._rankings[slate] = calls
            self._tiers[slate] = merged_tiers(calls)

        await play_loop(self._wake, look=look, ask=ask, told=self._teller(on_call), settle=settle)

    def _meeting(self, item: Pairing | Slate) -> int:
        """How often the same members met before."""
        members = members_of(item)
        meeting = self._meetings[members]
        self._meetings[members] += 1
        return meeting

    def _raise_failed_checks(self) -> None:
        """A gate that raised is the recipe's fault or a bug; either way nobody can say who plays."""
        for task in self._checking.values():
            if task.done():
                task.result()

    def _teller(self, on_call: CallHandler | None) -> Callable[[Call | Ranking], None]:
        def tell(call: Call | Ranking) -> None:
            if on_call is not None and not (isinstance(call, Call) and call.is_routed):
                on_call(self.key, call)

        return tell

    def _decided(self, pairing: Pairing) -> float | None:
        """Who wins without the judge: 1 a, 0 b; None where it must be asked."""
        return None if self._router is None else self._router.decide(pairing, self.gate_scores)


async def _itself(call: Call) -> Call:
    return call


def prior_score(scorer: PriorScorer, prompt: Prompt, candidate: Candidate) -> float:
    """Raises UserError where the scorer gives something that is not a finite number."""
    value = scorer(prompt, candidate)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"rewards.prior_scorer: a prior score is a finite number, got {value!r} for {candidate.id}")
    return float(value)


def group_seed(seed: int, key: GroupKey) -> int:
    """Seed of a group's tournament: the same in every process."""
    return stable_hash(seed, key.group_id, key.attempt)
