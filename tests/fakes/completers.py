"""Completers without a server: one that reads the answers, one that says what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewards.errors import JudgeFailure
from rewards.types import Completion, Message


@dataclass
class Asked:
    messages: Sequence[Message]
    seed: int
    schema: Mapping[str, Any] | None

    @property
    def texts(self) -> list[str]:
        """The data of the prompt: the task, then the answers."""
        return [span.text for message in self.messages for span in message.spans if span.is_data]


@dataclass
class FakeCompleter:
    """`reply` makes text, or a completion or failure, of what is asked."""

    reply: Callable[[Asked], str | Completion | JudgeFailure]
    asked: list[Asked] = field(default_factory=list)
    num_closed: int = 0

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        temperature: float | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        self.asked.append(Asked(messages, seed, schema))
        said = self.reply(self.asked[-1])
        if isinstance(said, JudgeFailure):
            raise said
        return Completion(said, 10, 2, 0.5) if isinstance(said, str) else said

    async def close(self) -> None:
        self.num_closed += 1


def longer_is_better(asked: Asked) -> str:
    """A reply of whatever form is asked for."""
    _, *answers = asked.texts
    wanted = set(asked.schema["properties"] if asked.schema else ())
    lengths = [len(answer) for answer in answers]
    if "ranking" in wanted:
        tiers = [[chr(65 + n) for n, own in enumerate(lengths) if own == size] for size in sorted(set(lengths))[::-1]]
        return json.dumps({"reason": "longer", "ranking": tiers})
    first, second = lengths
    if "winner" in wanted:
        return json.dumps({"reason": "longer", "winner": "A" if first > second else "B" if second > first else "tie"})
    if "probability" in wanted:
        return json.dumps({"reason": "longer", "probability": (first + 1) / (first + second + 2)})
    return json.dumps({"reason": "longer", "score_A": first, "score_B": second})
