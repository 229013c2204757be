"""Your own judge, named by import path: a function `(prompt, first, second)`, or a class with `compare`, and `rank`."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, cast

from rewards.errors import JudgeFailure, UserError
from rewards.importing import check_takes, import_target
from rewards.judge_config import PythonJudge
from rewards.types import Candidate, Places, Prompt, Verdict, VerdictKind

Said = float | Verdict | None
CompareFn = Callable[[Prompt, Candidate, Candidate], Said | Awaitable[Said]]
PlacesGiven = Sequence[int] | None
RankFn = Callable[[Prompt, Sequence[Candidate]], PlacesGiven | Awaitable[PlacesGiven]]


class Python:
    """Verdict: what `compare` returns, of the kind that the recipe states; None = no verdict. A `Verdict` of its own
    has a value of that kind, and may say a reason, tokens, cost, and by how much first is better on each criterion.

    `compare` may be async, and runs in the event loop: one that waits for something must be async, and one that
    computes for long should use a thread of its own. A JudgeFailure it raises is a failed call that is tried again;
    any other exception ends the run.
    """

    def __init__(
        self,
        target: str,
        compare: CompareFn,
        *,
        kind: VerdictKind,
        symmetric: bool,
        close: Callable[[], Any] | None = None,
    ):
        self.name = f"python:{target}"
        self.kind: VerdictKind = kind
        self.symmetric = symmetric
        self._target = target
        self._compare = compare
        self._close = close

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises UserError for a value that its kind does not allow."""
        value = self._compare(prompt, first, second)
        if inspect.isawaitable(value):
            value = await value
        said = value if isinstance(value, Verdict) else None
        if said is not None:
            value = said.value
        if value is None:
            why = "None" if said is None else f"no verdict: {said.failure}"
            raise JudgeFailure("empty", f"{self._target} returned {why}", retryable=False)
        if not isinstance(value, Real) or not _allowed(self.kind, float(value)):
            raise UserError(f"judge {self._target!r} returned {value!r}; a {self.kind} verdict is {_RANGES[self.kind]}")
        if said is None:
            return Verdict(float(value))
        return replace(said, value=float(value), criteria=self._criteria(said))

    def _criteria(self, said: Verdict) -> dict[str, float]:
        for name, value in said.criteria.items():
            if not isinstance(value, Real) or not -1.0 <= float(value) <= 1.0:
                raise UserError(
                    f"judge {self._target!r} says {value!r} of criterion {name!r}; it is a number in [-1, 1], above 0 "
                    "if the first is better"
                )
        return {name: float(value) for name, value in said.criteria.items()}

    async def close(self) -> None:
        """Calls the class's own `close`, once."""
        close, self._close = self._close, None
        if close is not None:
            result = close()
            if inspect.isawaitable(result):
                await result


class PythonRanker(Python):
    """A judge whose class also has `rank(prompt, candidates)`, under the same rules as `compare`."""

    def __init__(self, target: str, compare: CompareFn, rank: RankFn, **rest: Any):
        super().__init__(target, compare, **rest)
        self._rank = rank

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        """Raises UserError for what is no list of places."""
        said = self._rank(prompt, candidates)
        if inspect.isawaitable(said):
            said = await said
        if said is None:
            raise JudgeFailure("empty", f"{self._target} returned None", retryable=False)
        return as_places(said, len(candidates), f"judge {self._target!r}")


def as_places(said: Any, count: int, who: str) -> Places:
    """What a user's function returned as places.

    Raises:
        UserError: it is no list of `count` places.
    """
    try:
        places = Places(tuple(map(operator.index, said)))
    except (TypeError, ValueError):
        places = None
    if places is None or len(places.places) != count:
        raise UserError(
            f"{who} returned {said!r}; a ranking of {count} is {count} places: how many are better, 0 for the best"
        )
    return places


_RANGES = {"hard": "1, 0 or 0.5 for a tie", "probability": "a number in [0, 1]", "score": "a finite number"}


def _allowed(kind: VerdictKind, value: float) -> bool:
    if kind == "hard":
        return value in (0.0, 0.5, 1.0)
    if kind == "probability":
        return 0.0 <= value <= 1.0
    return math.isfinite(value)


def build_python(config: PythonJudge) -> Python:
    """A class is called without arguments; it may have a `close`. What its constructor raises passes through."""
    found = import_target(config.target)
    owner = found() if isinstance(found, type) else None
    compare = found if owner is None else getattr(owner, "compare", None)
    if not callable(compare):
        what = "a class without a method `compare`" if owner is not None else "no function"
        raise UserError(f"judge.target {config.target!r} is {what}; give a function (prompt, first, second)")
    check_takes(f"judge.target {config.target!r}", compare, "prompt", "first", "second")
    rest: dict[str, Any] = {
        "kind": config.verdict,
        "symmetric": config.symmetric,
        "close": getattr(owner, "close", None),
    }
    if not config.ranks:
        return Python(config.target, cast(CompareFn, compare), **rest)
    rank = getattr(owner, "rank", None)
    if not callable(rank):
        raise UserError(
            f"judge.ranks is true, and judge.target {config.target!r} is no class with a method `rank`; "
            "give it rank(prompt, candidates), or leave judge.ranks out"
        )
    check_takes(f"judge.target {config.target!r}", rank, "prompt", "candidates")
    return PythonRanker(config.target, cast(CompareFn, compare), cast(RankFn, rank), **rest)
