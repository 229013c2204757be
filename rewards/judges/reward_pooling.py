"""What a reward model makes of a prompt and an answer, by a vLLM engine that pools: readings as in `reward_reader.py`.

    prompt, answer --messages, both as data--> StatePooler (the backbone, in vLLM) --state of the last token--> head

The heads are a few thousand numbers and stay with us: vLLM knows nothing of preference embeddings, and both kinds of
model then run on the one path. A prompt's block scales are those of a state after the prompt alone, which in a causal
model is what it is under every answer: one more forward pass per prompt, none per answer.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.errors import JudgeFailure, UserError
from rewards.judges.kept import KeptTasks
from rewards.judges.reward_reader import Embedding, PreferenceHeads, exchange, read_tensors
from rewards.types import StatePooler


class ScalarPooling(KeptTasks[tuple[str, str], float]):
    """Readings of sequence classifiers with one output, `score.weight` [1, H].

    Raises:
        UserError: the directory holds no such head.
    """

    def __init__(self, directory: Path, pooler: StatePooler) -> None:
        super().__init__(self._read)
        head = read_tensors(directory, ("score.weight",)).get("score.weight")
        if head is None:
            raise UserError(
                f"reward model {directory}: no weights for score.weight; is it a reward model of this head?"
            )
        if len(head) != 1:
            raise UserError(f"reward model {directory}: has {len(head)} outputs, not one")
        self._head_H = head[0]
        self._pooler = pooler

    async def _read(self, pair: tuple[str, str]) -> float:
        value = float(self._head_H @ await answer_state(self._pooler, pair))
        if not math.isfinite(value):
            raise JudgeFailure("bad_reply", "the reward is not finite", retryable=False)
        return value


class EmbeddingPooling(KeptTasks[tuple[str, str], Embedding]):
    """Readings of general preference models; raises as `PreferenceHeads`."""

    def __init__(self, directory: Path, pooler: StatePooler) -> None:
        super().__init__(self._read)
        self._heads = PreferenceHeads(directory)
        self._pooler = pooler
        self._prompts: KeptTasks[str, NDArray[Any]] = KeptTasks(self._prompt_state)

    async def _read(self, pair: tuple[str, str]) -> Embedding:
        answer_H = await answer_state(self._pooler, pair)
        prompt_H = (await self._prompts.get([pair[0]]))[0] if self._heads.need_the_prompt else None
        return self._heads.embedding(answer_H, prompt_H)

    async def close(self) -> None:
        await super().close()
        await self._prompts.close()

    async def _prompt_state(self, prompt: str) -> NDArray[Any]:
        return np.asarray(await self._pooler.last_state(exchange(prompt, "")[:1]), dtype=np.float32)


async def answer_state(pooler: StatePooler, pair: tuple[str, str]) -> NDArray[Any]:
    """After the finished exchange of a prompt and an answer, [H]."""
    return np.asarray(await pooler.last_state(exchange(*pair)), dtype=np.float32)
