"""A causal model in an engine of its own that says how likely each of a few one-token continuations is.

verdict_tokens judge --choice_logprobs--> EngineScorer --token ids--> Engine actor --> vLLM (prefixes cached)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from rewards.errors import UserError
from rewards.types import ChoiceScores, Message
from rollouts.chat import encode_messages


class EngineScorer:
    """Implements `rewards.types.TokenScorer` over one engine actor."""

    def __init__(self, handle: Any, tokenizer: PreTrainedTokenizerBase, max_model_len: int):
        self._handle = handle
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len

    async def choice_logprobs(self, messages: Sequence[Message], prefill: str, choices: Sequence[str]) -> ChoiceScores:
        """Log-probabilities of `choices` as the next token after the messages and the prefilled answer.

        Raises:
            UserError: a choice is not one token of this model, or the prompt does not fit the judge's context.
        """
        choice_ids = [self._one_token(choice) for choice in choices]
        token_ids = np.asarray(encode_messages(self._tokenizer, messages, prefill), dtype=np.int32)
        if len(token_ids) >= self._max_model_len:
            raise UserError(
                f"judge prompt of {len(token_ids)} tokens does not fit max_model_len = {self._max_model_len}; "
                "raise the judge's max_model_len or lower rollouts.max_tokens"
            )
        logprobs = await self._handle.choice_logprobs.remote(token_ids, choice_ids)
        return ChoiceScores(logprobs=tuple(logprobs), tokens_in=len(token_ids))

    def _one_token(self, choice: str) -> int:
        token_ids = self._tokenizer.encode(choice, add_special_tokens=False)
        if len(token_ids) != 1:
            raise UserError(f"choices: {choice!r} is {len(token_ids)} tokens for this judge; give one-token words")
        return token_ids[0]
