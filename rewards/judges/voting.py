"""One question to a model behind an endpoint, put to it once or several times at once, and one outcome of the votes.

ask --votes--> [complete, seed 0] [complete, seed 1] ... at once --read strictly--> votes, failed ones missing
merge --> mean or majority

A question all of whose replies were bad gets other seeds when it is asked again, or a seeded server would repeat them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rewards.errors import JudgeFailure
from rewards.json_reply import last_object
from rewards.together import all_or_none
from rewards.types import Completer, Completion, Message, VerdictKind

MAX_FAILED = 4096
"""Questions with bad replies that are remembered; the oldest go first."""

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class Merged:
    """value: of the votes together. spokesman: number of a vote that leans as the value does, else the first."""

    value: float
    spokesman: int


def merge(values: Sequence[float], kind: VerdictKind, *, majority: bool) -> Merged:
    """One or more votes of one kind, each seen from the answer shown first.

    majority: each counts for its winner, and as many for both are a tie; else their mean.
    """
    level = 0.0 if kind == "score" else 0.5
    leans = [(value > level) - (value < level) for value in values]
    lean = (sum(leans) > 0) - (sum(leans) < 0)
    value = (lean + 1.0) / 2.0 if majority else sum(values) / len(values)
    return Merged(value, leans.index(lean) if lean in leans else 0)


class Voters:
    """Puts questions to a completer, which stays the caller's."""

    def __init__(self, completer: Completer, votes: int = 1) -> None:
        self._completer = completer
        self._votes = votes
        self._failed: OrderedDict[int, int] = OrderedDict()

    async def ask(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        read: Callable[[Mapping[str, Any], str], Said],
        *,
        votes: int | None = None,
    ) -> tuple[list[Said], Completion]:
        """The votes that were given, one at least, and what all replies together took, good or bad.

        Args:
            read: from the object that ends a reply, and the text before it.
            votes: instead of as many as always.

        Raises:
            JudgeFailure: no vote was given; it carries what the replies took. What else the completer raises passes
                through.
        """
        number = self._votes if votes is None else votes
        question = hash(tuple((message.role, message.text) for message in messages))
        first_seed = self._failed.get(question, 0) * number

        async def one(seed: int) -> tuple[Said | JudgeFailure, Completion]:
            try:
                completion = await self._completer.complete(messages, seed=seed, schema=schema)
            except JudgeFailure as failure:
                return failure, Completion("", failure.tokens_in, failure.tokens_out, failure.cost)
            try:
                return read(*last_object(completion)), completion
            except JudgeFailure as failure:
                return failure, completion

        replies = await all_or_none(one(first_seed + vote) for vote in range(number))
        spent = Completion(
            "",
            sum(completion.tokens_in for _, completion in replies),
            sum(completion.tokens_out for _, completion in replies),
            sum(completion.cost for _, completion in replies),
        )
        given = [said for said, _ in replies if not isinstance(said, JudgeFailure)]
        if not given:
            failures = [said for said, _ in replies if isinstance(said, JudgeFailure)]
            if any(failure.cause in ("bad_reply", "empty") for failure in failures):
                self._failed[question] = self._failed.get(question, 0) + 1
                while len(self._failed) > MAX_FAILED:
                    self._failed.popitem(last=False)
            worst = max(failures, key=lambda failure: (failure.retryable, failure.retry_after_s or 0.0))
            worst.tokens_in, worst.tokens_out, worst.cost = spent.tokens_in, spent.tokens_out, spent.cost
            raise worst
        self._failed.pop(question, None)
        return given, spent
