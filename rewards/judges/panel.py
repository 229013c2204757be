"""Several judges as one. In an arena each member is asked for itself and the match log keeps who said what:

    match --asking.py--> one call per member (and order) --> match log, Call.judge, Call.weight --> aggregator
    finished batch --reputation.py--> members' weights for the next one

Whoever compares outside an arena gets one merged verdict: the members' mean, or most of their votes, by weight.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import PanelJudge, Reputation
from rewards.judges.places import places_of
from rewards.reputation import Standing, learned, reputed_weights, standings_from_json, standings_to_json
from rewards.together import all_or_none
from rewards.types import (
    Candidate,
    Judge,
    KnownAnswer,
    ListJudge,
    MatchLog,
    Places,
    Prompt,
    Verdict,
    VerdictKind,
    requests_per_call,
)

Said = TypeVar("Said", Verdict, Places)


class Member:
    """A judge under its name in the panel; scores count by their sign, as hard verdicts."""

    def __init__(self, judge: Judge, name: str) -> None:
        self.name = name
        self.kind: VerdictKind = "hard" if judge.kind == "score" else judge.kind
        self.symmetric = judge.symmetric
        self.requests_per_call = requests_per_call(judge)
        self.judge = judge

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        verdict = await self.judge.compare(prompt, first, second)
        if self.judge.kind != "score" or verdict.value is None:
            return verdict
        sign = (verdict.value > 0.0) - (verdict.value < 0.0)
        reason = f"score {verdict.value:.6g}; {verdict.reason}" if verdict.reason else f"score {verdict.value:.6g}"
        return replace(verdict, value=(sign + 1.0) / 2.0, reason=reason)

    async def close(self) -> None:
        await self.judge.close()


class ListMember(Member):
    """The same for a judge that also ranks."""

    def __init__(self, judge: Judge, ranker: ListJudge, name: str) -> None:
        super().__init__(judge, name)
        self._ranker = ranker

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        return await self._ranker.rank(prompt, candidates)


@dataclass(frozen=True, slots=True)
class Seat:
    """A judge on the panel and its weight in the recipe, in plain verdicts."""

    judge: Judge
    weight: float = 1.0


class Panel:
    """Implements `rewards.types.Judge`; a `RankingPanel` where every member ranks.

    Args:
        seats: members with names of their own. They belong to the panel, which closes them.
        reputation: how weights follow from verdicts; None: they stay.

    Raises:
        UserError: two members have one name.
    """

    def __init__(self, seats: Sequence[Seat], *, reputation: Reputation | None = None) -> None:
        names = [seat.judge.name for seat in seats]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"judge.members: two are called {twice[0]!r}; give each a `name` of its own")
        self.name = f"panel:{'+'.join(names)}"
        self.kind: VerdictKind = "probability" if any(seat.judge.kind == "probability" for seat in seats) else "hard"
        self.symmetric = all(seat.judge.symmetric for seat in seats)
        self.requests_per_call = sum(requests_per_call(seat.judge) for seat in seats)
        self._seats = tuple(seats)
        self._reputation = reputation
        self._standings: dict[str, Standing] = {}

    @property
    def members(self) -> tuple[Judge, ...]:
        return tuple(seat.judge for seat in self._seats)

    @property
    def weights(self) -> Mapping[str, float]:
        """What a verdict of each member counts now, by name."""
        base = {seat.judge.name: seat.weight for seat in self._seats}
        return base if self._reputation is None else reputed_weights(base, self._standings, self._reputation)

    @property
    def state(self) -> Mapping[str, Any] | None:
        """Reputations as plain JSON for a checkpoint; None where weights stay as they are."""
        return None if self._reputation is None else standings_to_json(self._standings)

    @state.setter
    def state(self, state: Mapping[str, Any] | None) -> None:
        self._standings = standings_from_json(state or {})

    def learn(self, logs: Sequence[MatchLog], answers: Sequence[KnownAnswer]) -> None:
        """A batch is over. answers: of the members on pairs with a known answer, of which a tie is not right."""
        if self._reputation is not None:
            names = [judge.name for judge in self.members]
            known = [(answer.judge, answer.result > 0.5) for answer in answers if answer.result is not None]
            self._standings = learned(self._standings, logs, known, names, self._reputation)

    def behind(self, wrap: Callable[[Judge], Judge]) -> Panel:
        """This panel with each member inside something else of the same name, such as faults on purpose."""
        self._seats = tuple(replace(seat, judge=wrap(seat.judge)) for seat in self._seats)
        return self

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """All members' verdicts as one. Members that fail are missing; raises JudgeFailure when all do."""
        said = await self._all(lambda judge: judge.compare(prompt, first, second))
        weights = self.weights
        total = sum(weights[name] for name, _ in said)
        mean = sum(weights[name] * (verdict.value or 0.0) for name, verdict in said) / total
        value = mean if self.kind == "probability" else float(mean > 0.5) if mean != 0.5 else 0.5
        reason = "; ".join(f"{name} {verdict.value:g}" for name, verdict in said)
        return Verdict(
            value,
            reason=reason,
            tokens_in=sum(verdict.tokens_in for _, verdict in said),
            tokens_out=sum(verdict.tokens_out for _, verdict in said),
            cost=sum(verdict.cost for _, verdict in said),
        )

    async def close(self) -> None:
        for judge in self.members:
            await judge.close()

    async def _all(self, ask: Callable[[Any], Coroutine[Any, Any, Said]]) -> list[tuple[str, Said]]:
        """Name and reply of the members that gave one."""

        async def one(judge: Judge) -> tuple[str, Said] | JudgeFailure:
            try:
                return judge.name, await ask(judge)
            except JudgeFailure as failure:
                return failure

        replies = await all_or_none(one(judge) for judge in self.members)
        said = [reply for reply in replies if not isinstance(reply, JudgeFailure)]
        if not said:
            failures = [reply for reply in replies if isinstance(reply, JudgeFailure)]
            raise max(failures, key=lambda failure: (failure.retryable, failure.retry_after_s or 0.0))
        return said


class RankingPanel(Panel):
    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        """All members' places as one, by their weighted sum (Borda). Raises as `compare`."""
        said = await self._all(lambda judge: judge.rank(prompt, candidates))
        weights = self.weights
        sums = [0.0] * len(candidates)
        for name, places in said:
            for number, place in enumerate(places.places):
                # Level ones count the mean of the places they share.
                sums[number] -= weights[name] * (place + (places.places.count(place) - 1) / 2.0)
        return Places(
            places_of(sums),
            tokens_in=sum(places.tokens_in for _, places in said),
            tokens_out=sum(places.tokens_out for _, places in said),
            cost=sum(places.cost for _, places in said),
        )


def build_panel(config: PanelJudge, judges: Sequence[Judge]) -> Panel:
    """The panel over the judges of its members, in their order.

    Raises:
        UserError: two members have one name.
    """
    seats = [
        Seat(_member(judge, member.name or judge.name), member.weight)
        for member, judge in zip(config.members, judges, strict=True)
    ]
    made = RankingPanel if all(isinstance(seat.judge, ListJudge) for seat in seats) else Panel
    return made(seats, reputation=config.reputation)


def _member(judge: Judge, name: str) -> Judge:
    return ListMember(judge, judge, name) if isinstance(judge, ListJudge) else Member(judge, name)
