"""Your own judge, named by import path: a function `(prompt, first, second)`, or a class with `compare`, and `rank`."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Awaitable, Callable, Sequence
from numbers import Real
from typing import Any, cast

from rewards.errors import JudgeFailure, UserError
from rewards.importing import import_target
from rewards.judge_config import PythonJudge
from rewards.types import Candidate, Places, Prompt, Verdict, VerdictKind

CompareFn = Callable[[Prompt, Candidate, Candidate], float | Awaitable[float | None] | None]
PlacesGiven = Sequence[int] | None
RankFn = Callable[[Prompt, Sequence[Candidate]], PlacesGiven | Awaitable[PlacesGiven]]


class Python:
    """Verdict: what `compare` returns, of the kind that the recipe states; None = no verdict.

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
        if value is None:
            raise JudgeFailure("empty", f"{self._target} returned None", retryable=False)
        if not isinstance(value, Real) or not _allowed(self.kind, float(value)):
            raise UserError(f"judge {self._target!r} returned {value!r}; a {self.kind} verdict is {_RANGES[self.kind]}")
        return Verdict(float(value))

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
    return PythonRanker(config.target, cast(CompareFn, compare), cast(RankFn, rank), **rest)
