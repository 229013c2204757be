"""Who met whom on the held-out prompts, and how it ended: from judged groups of players to games. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.types import GroupScore, Prompt
from rollouts.types import Rollout


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """Player `after` against player `before` (numbers of players, before < after) with their answers to one prompt.

    outcome: 1 if `after` won, 0.5 for a tie. gated: a gate decided, no judge was asked.
    """

    prompt: Prompt
    index: int
    before: int
    after: int
    before_answer: Rollout
    after_answer: Rollout
    outcome: float
    gated: bool

    @property
    def length_gap(self) -> float:
        """Tokens of `after` less those of `before`."""
        return float(self.after_answer.num_tokens - self.before_answer.num_tokens)

    def to_row(self, names: Sequence[str], second_outcome: float | None) -> dict[str, Any]:
        """A row of the table on disk; `second_outcome` is the second judge's."""
        return {
            "prompt_id": self.prompt.id,
            "index": self.index,
            "prompt": self.prompt.text,
            "before": names[self.before],
            "after": names[self.after],
            "outcome": self.outcome,
            "second_outcome": second_outcome,
            "gated": self.gated,
            "before_tokens": self.before_answer.num_tokens,
            "after_tokens": self.after_answer.num_tokens,
            "before_text": self.before_answer.text,
            "after_text": self.after_answer.text,
        }


def games_of(prompt: Prompt, index: int, answers: Sequence[Rollout | None], score: GroupScore) -> list[Game]:
    """The games of one group, whose slots are the players; pairs that did not meet or have no verdict are left out.

    A gate decides before the judge, as in training: who failed one loses to all who did not. Where rewards are one
    number per answer, the higher one wins.
    """
    failed = {slot for slots in score.gate_failures.values() for slot in slots}
    results = {}
    if score.kind is not None:
        results = {(match.pairing.a, match.pairing.b): match.result(score.kind) for match in score.matches}

    def outcome(a: int, b: int) -> float | None:
        if a in failed or b in failed:
            return 0.5 if a in failed and b in failed else float(a in failed)
        if score.kind is None:
            before, after = score.rewards[a], score.rewards[b]
            if before is None or after is None:
                return None
            return 0.5 if before == after else float(after > before)
        result = results.get((a, b))
        return None if result is None else 1.0 - result

    games = []
    for a, before in enumerate(answers):
        for b in range(a + 1, len(answers)):
            after = answers[b]
            if before is None or after is None or (ended := outcome(a, b)) is None:
                continue
            games.append(Game(prompt, index, a, b, before, after, ended, a in failed or b in failed))
    return games
