"""Conversations with their answers, as token ids and a mask of what is learned. The chat template is applied once.

messages --chat template--> one text --cut where answers start and end--> context | answer | context | answer
each piece is encoded by itself, so an answer starts at the token where a sampled one would
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rewards.errors import UserError
from rollouts.chat import control_token_ids, encode_prompt, encode_trusted, render
from rollouts.types import BoolArray, IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True, eq=False)
class Dialogue:
    """prompt_token_ids go up to where the first learned answer starts; the mask is true at the tokens of answers.

    The mark that ends an answer is part of it; what a chat template writes behind the last one is left out.
    """

    prompt_token_ids: IntArray
    answer_token_ids: IntArray
    loss_mask: BoolArray

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_token_ids) + len(self.answer_token_ids)


def encode_dialogue(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], *, only_last: bool = False
) -> Dialogue:
    """Token ids of messages whose last one is the assistant's.

    A tokenizer without a chat template (a base model) takes one answer a row: it follows the prompt of `encode_prompt`
    as it stands.

    Args:
        only_last: learn the last answer only, not every turn of the assistant.

    Raises:
        UserError: the chat template refuses the messages, or writes an answer differently once others follow.
    """
    turns = [i for i, message in enumerate(messages) if message["role"] == ASSISTANT]
    turns = turns[-1:] if only_last else turns
    if not tokenizer.chat_template:
        if len(turns) > 1:
            raise UserError(
                "the model has no chat template, so a row can teach one answer; write a row per answer, or set "
                "sft.turns: last"
            )
        prompt = encode_prompt(tokenizer, messages[:-1])
        return _finished(
            tokenizer, prompt, [(tokenizer.encode(messages[-1]["content"], add_special_tokens=False), True)]
        )
    text = render(tokenizer, messages, open_answer=False)
    marks = [token.content for token in tokenizer.added_tokens_decoder.values() if len(token.content) > 1]
    pieces: list[tuple[list[int], bool]] = []
    done = 0
    for turn in turns:
        start, end = _answer_span(tokenizer, messages, turn, text, marks)
        pieces.append((encode_trusted(tokenizer, text[done:start], start=done == 0), False))
        pieces.append((encode_trusted(tokenizer, text[start:end], start=False), True))
        done = end
    return _finished(tokenizer, np.asarray(pieces[0][0], dtype=np.int32), pieces[1:])


def encode_literal(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> Dialogue:
    """Token ids of a text and its continuation as they stand, without a chat template; ends with the end token."""
    start = encode_trusted(tokenizer, prompt, start=True)
    ids = tokenizer.encode(completion, add_special_tokens=False)
    return _finished(tokenizer, np.asarray(start, dtype=np.int32), [(ids, True)])


def _answer_span(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, str]],
    turn: int,
    text: str,
    marks: Sequence[str],
) -> tuple[int, int]:
    """Where the answer of this turn starts and ends in the text of the whole conversation."""
    before = render(tokenizer, messages[:turn])
    through = render(tokenizer, messages[: turn + 1], open_answer=False)
    body = through.rstrip()
    if any(body.endswith(mark) for mark in marks):
        through = body  # what follows the end mark is never sampled
    if not (through.startswith(before) and text.startswith(through)):
        raise UserError(
            f"the chat template writes message {turn + 1} differently when it is asked for it and when others follow; "
            "set sft.turns: last, or sft.apply_chat_template: false with rows of literal prompt and completion"
        )
    return len(before), len(through)


def _finished(
    tokenizer: PreTrainedTokenizerBase, prompt_token_ids: IntArray, pieces: Sequence[tuple[list[int], bool]]
) -> Dialogue:
    """Joins the pieces behind the prompt; an answer that ends with no control token gets the end token."""
    ids = [id for piece, _ in pieces for id in piece]
    learned = [is_answer for piece, is_answer in pieces for _ in piece]
    if not ids or ids[-1] not in control_token_ids(tokenizer):
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end token (eos_token), so an answer could not be taught to end")
        ids.append(tokenizer.eos_token_id)  # pyright: ignore[reportArgumentType]
        learned.append(True)
    if not len(prompt_token_ids):
        raise UserError("the prompt is empty; an answer needs at least one token before it")
    return Dialogue(prompt_token_ids, np.asarray(ids, dtype=np.int32), np.asarray(learned, dtype=np.bool_))
