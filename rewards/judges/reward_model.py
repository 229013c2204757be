"""The answer that a reward model prefers wins: a scalar per answer, or an embedding per answer and a form over two.

    compare --> reading of (prompt, answer), each worked out once (`kept.py`): a forward pass of the model

N answers cost N forward passes for their N(N-1)/2 matches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rewards.judge_config import RewardModelJudge
from rewards.judges.kept import Kept
from rewards.judges.places import places_of
from rewards.judges.reward_reader import EmbeddingReader, ScalarReader, preference
from rewards.types import Candidate, Places, Prompt, Verdict, VerdictKind


class RewardModel:
    """Verdict: `prefer(reading of first, reading of second)`, a score; symmetric.

    Args:
        name: how the match log calls the judge.
        read: from prompt and answer to what the model makes of them; called from one thread of ours.
        prefer: skew-symmetric.
        on_start: called once in that thread.
    """

    kind: VerdictKind = "score"
    symmetric = True

    def __init__(
        self,
        name: str,
        read: Callable[[tuple[str, str]], Any],
        prefer: Callable[[Any, Any], float],
        *,
        on_start: Callable[[], None] | None = None,
    ):
        self.name = name
        self._prefer = prefer
        self._readings: Kept[tuple[str, str], Any] = Kept("reward-model-judge", read, on_start=on_start)

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises JudgeFailure for an exchange that is too long, or a reading that is not finite."""
        return Verdict(self._prefer(*await self._read(prompt, (first, second))))

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        """By the sum of preferences over the others, which for a scalar is its own order. Raises as `compare`."""
        readings = await self._read(prompt, candidates)
        return Places(places_of([sum(self._prefer(one, other) for other in readings) for one in readings]))

    async def close(self) -> None:
        await self._readings.close()

    async def _read(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[Any]:
        return await self._readings.get([(prompt.text, candidate.text) for candidate in candidates])


def build_reward_model(config: RewardModelJudge, directory: Path) -> RewardModel:
    """Raises UserError where the directory holds no such model."""
    name = f"reward_model:{config.model}"
    if config.head == "scalar":
        reader = ScalarReader(directory, max_tokens=config.max_tokens)
        return RewardModel(name, reader.read, lambda ours, theirs: ours - theirs, on_start=reader.use_half_the_cores)
    reader = EmbeddingReader(directory, max_tokens=config.max_tokens)
    return RewardModel(name, reader.read, preference, on_start=reader.use_half_the_cores)
