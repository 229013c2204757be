"""The answer that a reward model prefers wins: a scalar per answer, or an embedding per answer and a form over two.

    compare --> reading of (prompt, answer), each worked out once (`kept.py`): a forward pass of the model,
                by transformers in this process, or by a vLLM engine that pools (`reward_pooling.py`)

N answers cost N forward passes for their N(N-1)/2 matches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rewards.judge_config import RewardModelJudge, judge_name
from rewards.judges.kept import Kept, Once
from rewards.judges.places import places_of
from rewards.judges.reward_pooling import EmbeddingPooling, ScalarPooling
from rewards.judges.reward_reader import EmbeddingReader, ScalarReader, preference
from rewards.types import Candidate, Places, Prompt, StatePooler, Verdict, VerdictKind


class RewardModel:
    """Verdict: `prefer(reading of first, reading of second)`, a score; symmetric.

    Args:
        name: how the match log calls the judge.
        readings: from prompt and answer to what the model makes of them; the judge closes it.
        prefer: skew-symmetric.
    """

    kind: VerdictKind = "score"
    symmetric = True

    def __init__(
        self,
        name: str,
        readings: Once[tuple[str, str], Any],
        prefer: Callable[[Any, Any], float],
    ):
        self.name = name
        self._prefer = prefer
        self._readings = readings

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


def build_reward_model(config: RewardModelJudge, directory: Path, pooler: StatePooler | None = None) -> RewardModel:
    """pooler: the engine of `engine: vllm`; it stays the caller's.

    Raises UserError where the directory holds no such model.
    """
    name, is_scalar = judge_name(config), config.head == "scalar"
    prefer = (lambda ours, theirs: ours - theirs) if is_scalar else preference
    if config.engine == "vllm":
        if pooler is None:
            raise ValueError("a reward_model judge with engine vllm needs a pooler")
        return RewardModel(name, (ScalarPooling if is_scalar else EmbeddingPooling)(directory, pooler), prefer)
    reader = (ScalarReader if is_scalar else EmbeddingReader)(directory, max_tokens=config.max_tokens)
    return RewardModel(name, Kept("reward-model-judge", reader.read, on_start=reader.use_half_the_cores), prefer)
