"""All gates on one answer: the hard ones that fail it, and what the soft ones say.

examine --sync gates--> hard failures? --yes--> done: gates that would have to wait are not asked
                                       --no---> the waiting ones, side by side
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.together import all_or_none
from rewards.types import AnyGate, Candidate, Prompt, SoftGate


@dataclass(frozen=True, slots=True)
class Examination:
    """failed: names of hard gates that veto. scores: of the soft gates, in [0, 1]; not all of them after a veto."""

    failed: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


def examine(gates: Sequence[AnyGate], prompt: Prompt, candidate: Candidate) -> Examination | Awaitable[Examination]:
    """Asks every gate. Done at once where none has to wait; UserError and bugs of gates pass through.

    A veto spares the gates that wait (patterns, commands): an answer that a cheap gate failed is not tested.
    """
    said: list[Any] = []
    try:
        for gate in gates:
            said.append(_ask(gate, prompt, candidate))  # noqa: PERF401  What was asked is dropped if one raises.
    except BaseException:
        _drop(said)
        raise
    quick = [(gate, word) for gate, word in zip(gates, said, strict=True) if not inspect.isawaitable(word)]
    found = _examination([gate for gate, _ in quick], [word for _, word in quick])
    if len(quick) == len(said) or found.failed:
        _drop(said)
        return found
    return _wait(gates, said)


async def _wait(gates: Sequence[AnyGate], said: Sequence[Any]) -> Examination:
    waiting = [index for index, word in enumerate(said) if inspect.isawaitable(word)]
    results = await all_or_none(said[i] if inspect.iscoroutine(said[i]) else _result(said[i]) for i in waiting)
    settled = dict(zip(waiting, results, strict=True))
    return _examination(gates, [settled.get(index, word) for index, word in enumerate(said)])


async def _result(word: Awaitable[Any]) -> Any:
    return await word


def _ask(gate: AnyGate, prompt: Prompt, candidate: Candidate) -> Any:
    return gate.score(prompt, candidate) if isinstance(gate, SoftGate) else gate.check(prompt, candidate)


def _examination(gates: Sequence[AnyGate], said: Sequence[Any]) -> Examination:
    pairs = list(zip(gates, said, strict=True))
    return Examination(
        tuple(gate.name for gate, word in pairs if not isinstance(gate, SoftGate) and word is not None),
        {gate.name: float(word) for gate, word in pairs if isinstance(gate, SoftGate)},
    )


def _drop(said: Sequence[Any]) -> None:
    """What waits among it and nobody will await."""
    for word in said:
        if inspect.iscoroutine(word):
            word.close()
        elif isinstance(word, asyncio.Future):
            word.cancel()
