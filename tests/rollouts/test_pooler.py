"""What an engine that pools is asked for, without an engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rewards.errors import JudgeFailure, UserError
from rewards.judges.reward_reader import exchange
from rollouts.pooler import EnginePooler
from rollouts.tiny import END, build_tiny_tokenizer

TOKENIZER = build_tiny_tokenizer()


class Handle:
    """An actor's handle: what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.last_state = self

    async def remote(self, token_ids: np.ndarray) -> list[float]:
        self.asked.append(token_ids.tolist())
        return [float(len(token_ids))]


async def test_the_finished_exchange_and_nothing_after_it() -> None:
    handle: Any = Handle()
    messages = exchange("Which?", f"This.{END}")
    state = await EnginePooler(handle, TOKENIZER, 64).last_state(messages)
    turns = [{"role": message.role, "content": message.text.replace(END, "")} for message in messages]
    plain = TOKENIZER(str(TOKENIZER.apply_chat_template(turns, tokenize=False)), add_special_tokens=False)["input_ids"]
    (asked,) = handle.asked
    assert state == [len(asked)]
    end = TOKENIZER.convert_tokens_to_ids(END)
    assert asked.count(end) == list(plain).count(end) == 2  # the answer's own is text
    assert TOKENIZER.decode(asked).count(END) == 3


async def test_what_is_too_long_is_not_asked() -> None:
    handle: Any = Handle()
    length = int((await EnginePooler(handle, TOKENIZER, 64).last_state(exchange("Which?", "This.")))[0])
    await EnginePooler(handle, TOKENIZER, length).last_state(exchange("Which?", "This."))
    with pytest.raises(JudgeFailure, match=rf"{length} tokens are more than judge\.max_tokens") as caught:
        await EnginePooler(handle, TOKENIZER, length - 1).last_state(exchange("Which?", "This."))
    assert not caught.value.retryable
    assert len(handle.asked) == 2


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        EnginePooler(Handle(), tokenizer, 64)
