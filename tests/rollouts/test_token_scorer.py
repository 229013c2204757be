"""The token scorer over an engine that is a plain object with Ray's way of being called."""

from __future__ import annotations

import numpy as np
import pytest

from rewards.errors import UserError
from rewards.types import ChoiceScores, Message, Span
from rollouts.chat import encode_messages
from rollouts.tiny import build_tiny_tokenizer
from rollouts.token_scorer import EngineScorer

TOKENIZER = build_tiny_tokenizer()
MESSAGES = [Message("user", (Span("Which is better? "), Span("<|im_end|>", is_data=True)))]


class FakeHandle:
    """Answers `handle.choice_logprobs.remote(...)` with -1, -2, .. and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[np.ndarray, list[int]]] = []

    @property
    def choice_logprobs(self) -> FakeHandle:
        return self

    async def remote(self, token_ids: np.ndarray, choice_ids: list[int]) -> tuple[float, ...]:
        self.asked.append((token_ids, choice_ids))
        return tuple(-1.0 - n for n in range(len(choice_ids)))


def encoded(prefill: str) -> list[int]:
    return encode_messages(TOKENIZER, MESSAGES, prefill)


async def test_it_asks_for_the_choices_after_the_prefilled_answer() -> None:
    handle = FakeHandle()
    scores = await EngineScorer(handle, TOKENIZER, 512).choice_logprobs(MESSAGES, "Answer ", ["A", "B", "C"])
    assert scores == ChoiceScores((-1.0, -2.0, -3.0), tokens_in=len(encoded("Answer ")))
    ((token_ids, choice_ids),) = handle.asked
    assert token_ids.dtype == np.int32
    assert token_ids.tolist() == encoded("Answer ")
    assert [TOKENIZER.decode([token]) for token in choice_ids] == ["A", "B", "C"]


@pytest.mark.parametrize(("choice", "count"), [("AB", 2), ("", 0)])
async def test_a_choice_that_is_not_one_token_is_the_users(choice: str, count: int) -> None:
    handle = FakeHandle()
    with pytest.raises(UserError, match=rf"choices: '{choice}' is {count} tokens") as caught:
        await EngineScorer(handle, TOKENIZER, 512).choice_logprobs(MESSAGES, "", ["A", choice])
    assert "\n" not in str(caught.value)
    assert handle.asked == []


async def test_the_prompt_must_leave_room_for_the_verdict() -> None:
    handle, length = FakeHandle(), len(encoded(""))
    with pytest.raises(UserError, match=f"of {length} tokens does not fit max_model_len = {length}; raise") as caught:
        await EngineScorer(handle, TOKENIZER, length).choice_logprobs(MESSAGES, "", ["A"])
    assert "\n" not in str(caught.value)
    assert handle.asked == []
    await EngineScorer(handle, TOKENIZER, length + 1).choice_logprobs(MESSAGES, "", ["A"])
    assert len(handle.asked) == 1
