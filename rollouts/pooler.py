"""The backbone of a reward model in an engine of its own that pools: the state of an exchange's last token.

reward_model judge --last_state--> EnginePooler --token ids--> Engine actor --> vLLM, pooling runner
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from rewards.errors import JudgeFailure, UserError
from rewards.types import Message
from rollouts.chat import encode_messages


class EnginePooler:
    """Implements `rewards.types.StatePooler` over one engine actor whose spec has a `backbone`.

    Raises:
        UserError: the tokenizer has no chat template.
    """

    def __init__(self, handle: Any, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        if not tokenizer.chat_template:
            raise UserError(
                f"reward model {tokenizer.name_or_path}: its tokenizer has no chat template; use a model that has one"
            )
        self._handle = handle
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    async def last_state(self, messages: Sequence[Message]) -> Sequence[float]:
        ids = encode_messages(self._tokenizer, messages, answers=False)
        if len(ids) > self._max_tokens:
            raise JudgeFailure("refused", f"{len(ids)} tokens are more than judge.max_tokens", retryable=False)
        return await self._handle.last_state.remote(np.asarray(ids, dtype=np.int32))
