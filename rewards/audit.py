"""A second judge looks over a share of what the first one decided, in training too.

    sampler --open/add/close--> AuditedSink --> Arena: tournaments, scores          (nothing of an audit reaches them)
    trainer <----scores()------------|  scores are there --lots--> a share of the decided pairs --> second judge
                                     |  its calls come back as `GroupScore.audit`, for figures and alarms only

The pairs are drawn by lot from what the scores say was decided, the same in every process. The second judge has calls,
tokens and money of its own, a part of `rewards.budget` (`rewards/budget.py`). One that is down or has spent its part
leaves pairs unasked, which are counted, as its failures are; the run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from rewards.arena import Arena
from rewards.asking import Asker
from rewards.budget import Purse, Spend
from rewards.calling import Caller, Line
from rewards.config import CallBudget, CallLimits
from rewards.diagnostics.agreement import decided_pairs
from rewards.errors import RunStopped
from rewards.limiter import Limiter
from rewards.seating import stable_hash
from rewards.together import all_or_none
from rewards.tournament import group_seed
from rewards.types import (
    Audit,
    Call,
    CallHandler,
    Candidate,
    GroupKey,
    GroupScore,
    Judge,
    Match,
    Pairing,
    Prior,
    Prompt,
)

Pair = tuple[GroupKey, Pairing]


def draw_pairs(decided: Mapping[GroupKey, Sequence[Pairing]], share: float, seed: int) -> list[Pair]:
    """A share of all pairs, rounded up, by lot; the first ones are to be asked first."""
    pairs = [(key, pairing) for key, pairings in decided.items() for pairing in pairings]
    lots = sorted(pairs, key=lambda pair: stable_hash(seed, "audit", pair[0], pair[1].a, pair[1].b, pair[1].round))
    return lots[: math.ceil(share * len(pairs) - 1e-9)]


@dataclass(slots=True, eq=False)
class _Group:
    prompt: Prompt
    candidates: dict[int, Candidate] = field(default_factory=dict)


class AuditedSink:
    """An arena whose decided pairs a second judge looks over; implements `rl.seams.TrainingSink`.

    Args:
        judge: the second one; opened and closed by whoever made it. It is asked in both orders, unless symmetric.
        share: of the decided pairs of a batch.
        calls: as the first judge's. A second judge that is down is waited for no longer than one call may take.
        budget: what it may spend; `spent` of the run's went out before.
        lines: as the arena's, with an outage of its own.
        on_call: told of every finished call. say: told in a line when the second judge is down, once per outage.
    """

    def __init__(
        self,
        arena: Arena,
        judge: Judge,
        share: float,
        calls: CallLimits,
        *,
        limiter: Limiter,
        budget: CallBudget = CallBudget(),
        spent: Spend = Spend(),
        seed: int = 0,
        lines: Mapping[str, Line] = MappingProxyType({}),
        on_call: CallHandler | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._arena = arena
        self._share = share
        self._seed = seed
        self._on_call = on_call
        self._say = say
        self._is_down = False
        self._purse = Purse(budget, groups=1, spent=spent)
        self._step_is_spent = False
        self._asker = Asker(
            judge,
            lambda one: Caller(one, calls, limiter, line=lines.get(one.name, Line()), purse=self._purse),
            orders="both",
        )
        self._groups: dict[GroupKey, _Group] = {}
        self._waiting: dict[Pair, int] = {}

    @property
    def prior(self) -> Prior | None:
        return self._arena.prior

    @prior.setter
    def prior(self, prior: Prior | None) -> None:
        self._arena.prior = prior

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
        """As the arena's. Raises RunStopped where the run's budget is spent, all but the second judge's part."""
        try:
            await self._arena.open(key, prompt, num_candidates)
        except RunStopped as stopped:
            raise RunStopped(f"{stopped} (the rest of it is for the second judge, by evaluation.audit_share)") from None
        self._groups[key] = _Group(prompt)

    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None:
        await self._arena.add(key, index, candidate)
        self._groups[key].candidates[index] = candidate

    async def close(self, key: GroupKey) -> None:
        await self._arena.close(key)

    async def scores(self) -> dict[GroupKey, GroupScore]:
        """The arena's scores, each with what the second judge said of some of its pairs."""
        try:
            scores = await self._arena.scores()
            audits = await self._audit(scores)
        except BaseException:
            await self.stop()
            raise
        for key in scores:
            self._groups.pop(key, None)
        return {key: replace(score, audit=audits[key]) for key, score in scores.items()}

    def refill(self, num_groups: int) -> bool:
        if not self._arena.refill(num_groups):
            return False
        self._step_is_spent = not self._purse.refill(num_groups, calls_per_item=self._asker.calls_per_item)
        return True

    def unfinished(self) -> list[str]:
        """As the arena's, and pairs before the second judge."""
        waiting = [
            f"audit of {key}: {pair.a} against {pair.b}" for (key, pair), calls in self._waiting.items() if calls
        ]
        return self._arena.unfinished() + waiting

    async def stop(self) -> None:
        self._groups.clear()
        self._waiting.clear()
        await self._arena.stop()

    async def _audit(self, scores: Mapping[GroupKey, GroupScore]) -> dict[GroupKey, Audit]:
        decided = {key: sorted(decided_pairs(score)) for key, score in scores.items()}
        drawn = draw_pairs(decided, self._share, self._seed)
        left = 0 if self._step_is_spent else self._purse.left(0)
        chosen = drawn if left is None else drawn[: left // self._asker.calls_per_item]
        made: dict[Pair, list[Call]] = {pair: [] for pair in drawn}
        if chosen:
            await self._ask(chosen, made)
        if not self._step_is_spent:
            self._purse.close_batch(sum(map(len, made.values())))
        self._step_is_spent = False
        return {
            key: Audit(
                self._asker.kind,
                tuple(_match(pairing, calls) for (own, pairing), calls in sorted(made.items()) if own == key and calls),
                num_unasked=sum(own == key and not calls for (own, _), calls in made.items()),
            )
            for key in scores
        }

    async def _ask(self, chosen: Sequence[Pair], made: dict[Pair, list[Call]]) -> None:
        """Enters every finished call into `made`; a judge that is down ends it."""

        async def ask(pair: Pair, asked: Coroutine[Any, Any, Call | None]) -> None:
            call = await asked
            self._waiting[pair] -= 1
            if call is not None:
                made[pair].append(call)
                if self._on_call is not None:
                    self._on_call(pair[0], call)

        work: list[Coroutine[Any, Any, None]] = []
        for pair in chosen:
            key, pairing = pair
            group = self._groups[key]
            seed = group_seed(self._seed, key)
            calls = self._asker.first_calls(group.prompt, group.candidates, pairing, seed, meeting=pairing.round)
            self._waiting[pair] = len(calls)
            work += [ask(pair, call) for call in calls]
        try:
            await all_or_none(work)
            self._is_down = False
        except RunStopped as stopped:
            if not self._is_down:
                self._say(f"no audit while the second judge is down, training goes on: {stopped}")
            self._is_down = True
        finally:
            self._waiting.clear()


def _match(pairing: Pairing, calls: Sequence[Call]) -> Match:
    """In an order that does not depend on who answered first."""
    return Match(pairing, tuple(sorted(calls, key=lambda call: (call.judge, call.first != pairing.a))))
