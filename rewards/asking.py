"""Who is asked about a match or a slate, in which orders, and who is asked once more.

match --first_calls--> a call per judge, or two  --Caller-->  calls
calls --more_calls---> with `both_if_close`: the other order, of each judge whose first verdict was close
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewards.calibration import KnownPair
from rewards.calling import Caller
from rewards.judges.panel import Panel
from rewards.merging import merged_match
from rewards.seating import pair_seats, slate_orders, stable_hash
from rewards.together import all_or_none
from rewards.types import (
    Call,
    CallHandler,
    Candidate,
    GroupKey,
    Judge,
    KnownAnswer,
    ListJudge,
    Match,
    Merge,
    Orders,
    Pairing,
    Prompt,
    Ranking,
    Slate,
    VerdictKind,
)

CLOSE_PROBABILITY = 0.25
"""A probability is close to a tie within this, unless the recipe says otherwise."""

Asked = Coroutine[Any, Any, Call | None]
"""None: not asked, because the budget is spent."""


class Asker:
    """Puts matches and slates before one judge, or before all of a panel.

    Args:
        caller_of: makes the caller of a judge; each member of a panel gets its own.
        close_margin: of `both_if_close`; None: a quarter for probabilities, only ties for hard verdicts.
        merge: how a topology reads two orders.
    """

    def __init__(
        self,
        judge: Judge | ListJudge,
        caller_of: Callable[[Judge | ListJudge], Caller],
        *,
        orders: Orders,
        close_margin: float | None = None,
        merge: Merge = "sum",
    ) -> None:
        self.judge = judge
        self.kind: VerdictKind = judge.kind if isinstance(judge, Judge) else "hard"
        self.symmetric = judge.symmetric
        self._panel = judge if isinstance(judge, Panel) else None
        judges: Sequence[Judge | ListJudge] = self._panel.members if self._panel is not None else (judge,)
        self.callers: Mapping[str, Caller] = {one.name: caller_of(one) for one in judges}
        # Beside judges that lean to a seat, one that cannot is seated by lot: or its verdicts would show a lean.
        self._orders: dict[str, Orders] = {one.name: "random" if one.symmetric else orders for one in judges}
        self._close_margin = close_margin
        self.merge: Merge = merge

    @property
    def num_judges(self) -> int:
        return len(self.callers)

    @property
    def calls_per_item(self) -> int:
        """Calls about one match or slate, at most."""
        return sum(2 if orders in ("both", "both_if_close") else 1 for orders in self._orders.values())

    def first_calls(
        self, prompt: Prompt, candidates: Mapping[int, Candidate], pairing: Pairing, seed: int, meeting: int = 0
    ) -> list[Asked]:
        """The calls that a match starts with. seed: of the group's lots and jitters. meeting: as `Caller.call`."""
        return [
            self._call(name, prompt, candidates, pairing, seats, seed, meeting)
            for name, orders in self._orders.items()
            for seats in pair_seats(pairing, orders, self.symmetric, seed)
        ]

    def more_calls(
        self,
        prompt: Prompt,
        candidates: Mapping[int, Candidate],
        pairing: Pairing,
        calls: Sequence[Call],
        seed: int,
        meeting: int = 0,
    ) -> list[Asked]:
        """The calls that follow from those that a match has; none when it is settled."""
        asked = [call.judge for call in calls]
        return [
            self._call(call.judge, prompt, candidates, pairing, (call.second, call.first), seed, meeting)
            for call in calls
            if self._orders[call.judge] == "both_if_close"
            and asked.count(call.judge) == 1
            and call.verdict.value is not None
            and self._is_close(call.verdict.value)
        ]

    def rankings(
        self, prompt: Prompt, candidates: Mapping[int, Candidate], slate: Slate, seed: int, meeting: int = 0
    ) -> list[Coroutine[Any, Any, Ranking | None]]:
        """The calls about a slate."""
        return [
            self._ranking(name, prompt, candidates, slate, shown, seed, meeting)
            for name, orders in self._orders.items()
            for shown in slate_orders(slate, orders, self.symmetric, seed)
        ]

    async def test(
        self,
        key: GroupKey,
        pairs: Sequence[tuple[KnownPair, bool]],
        seed: int,
        on_call: CallHandler | None = None,
    ) -> list[KnownAnswer]:
        """Puts known pairs before every judge; those that the budget left unasked are left out.

        Args:
            key: of the group among whose matches they are.
            pairs: each with whether the better answer is shown first.
            on_call: told of every call, since it costs as any other.
        """
        # A pair comes back with other groups: of a judge that draws its verdicts, as another question.
        meeting = stable_hash(seed, "calibration", key)

        async def one(name: str, pair: KnownPair, better_first: bool) -> KnownAnswer | None:
            shown = (pair.better, pair.worse) if better_first else (pair.worse, pair.better)
            seats = (0, 1) if better_first else (1, 0)
            call = await self.callers[name].call(
                pair.prompt, shown, seats, stable_hash(seed, pair.prompt.id, seats), meeting=meeting
            )
            if call is None:
                return None
            if on_call is not None:
                on_call(key, call)
            return KnownAnswer(name, Match(Pairing(0, 1), (call,)).result(self.kind))

        answers = await all_or_none(
            one(name, pair, better_first) for pair, better_first in pairs for name in self.callers
        )
        return [answer for answer in answers if answer is not None]

    def result(self, match: Match) -> float | None:
        """Who won, as a topology needs it: 1 a, 0 b, 0.5 level, None missing."""
        return merged_match(match, self.kind, self.merge).result(self.kind)

    def _is_close(self, value: float) -> bool:
        if self.kind == "score":
            assert self._close_margin is not None  # `rewards/config.py` asks for it
            return abs(value) < self._close_margin
        if self.kind == "hard":
            return value == 0.5
        return abs(value - 0.5) < (CLOSE_PROBABILITY if self._close_margin is None else self._close_margin)

    async def _call(
        self,
        name: str,
        prompt: Prompt,
        candidates: Mapping[int, Candidate],
        pairing: Pairing,
        seats: tuple[int, int],
        seed: int,
        meeting: int,
    ) -> Call | None:
        first, second = seats
        call = await self.callers[name].call(
            prompt,
            (candidates[first], candidates[second]),
            seats,
            stable_hash(seed, pairing.a, pairing.b, pairing.round, first),
            meeting=meeting,
        )
        return self._weighted(call)

    async def _ranking(
        self,
        name: str,
        prompt: Prompt,
        candidates: Mapping[int, Candidate],
        slate: Slate,
        shown: tuple[int, ...],
        seed: int,
        meeting: int,
    ) -> Ranking | None:
        ranking = await self.callers[name].rank(
            prompt,
            [candidates[slot] for slot in shown],
            slate,
            shown,
            stable_hash(seed, "slate", *shown, slate.round),
            meeting=meeting,
        )
        return self._weighted(ranking)

    def _weighted(self, call: Any) -> Any:
        return call if self._panel is None or call is None else replace(call, weight=self._panel.weights[call.judge])
