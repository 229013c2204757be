"""From messages to token ids, once. Data spans (candidates' answers) can never become control tokens.

messages --chat template, a sentinel in place of each data span--> text
         --cut at the sentinels--> trusted piece | data piece | trusted piece ...
trusted pieces are encoded as they are; data pieces with every control token in them broken up
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.errors import UserError
from rewards.types import Message, Span

Tokenizer = Any
"""A tokenizer of transformers, which this module does not import."""

_BREAK = "\n\n"
"""Between messages, and before the answer, where a tokenizer has no chat template."""


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]]) -> NDArray[np.int32]:
    """Token ids of a policy's prompt, up to where its answer starts; the chat template is applied once.

    A tokenizer without a chat template (a base model) gets the messages' plain text, joined by blank lines.

    Raises:
        UserError: the chat template refuses these messages.
    """
    return np.asarray(_encode_trusted(tokenizer, _render(tokenizer, messages), start=True), dtype=np.int32)


def encode_messages(
    tokenizer: Tokenizer, messages: Sequence[Message], prefill: str = "", *, answers: bool = True
) -> list[int]:
    """Token ids of messages with data spans, up to and with `prefill`, the trusted beginning of the answer.

    No id of a control token (any added token of two characters or more) comes out of a data span, whatever it holds;
    only an unknown-token id may stand for characters that the vocabulary lacks.
    Messages without data spans give the ids of `encode_prompt`. `answers`: an answer is to follow; else the ids end
    with the last message.

    Raises:
        UserError: the chat template refuses these messages, or drops or repeats a part of them.
    """
    data = [span.text for message in messages for span in message.spans if span.is_data]
    sentinel = _draw_sentinel([span.text for message in messages for span in message.spans] + [prefill])
    indices = iter(range(len(data)))
    marked = [
        {
            "role": message.role,
            "content": "".join(f"{sentinel}{next(indices)}e" if span.is_data else span.text for span in message.spans),
        }
        for message in messages
    ]
    text = _render(tokenizer, marked, answers=answers) + (
        prefill if tokenizer.chat_template or not prefill else _BREAK + prefill
    )
    pieces = re.split(rf"{sentinel}(\d+)e", text)
    if pieces[1::2] != [str(index) for index in range(len(data))]:
        raise UserError(
            "the model's chat template drops, repeats or reorders message contents; use another judge model"
        )
    token_ids: list[int] = []
    for position, piece in enumerate(pieces):
        if position % 2 == 0:
            token_ids += _encode_trusted(tokenizer, piece, start=position == 0)
        else:
            token_ids += _encode_data(tokenizer, data[int(piece)])
    return token_ids


def encode_spans(tokenizer: Tokenizer, spans: Sequence[Span]) -> list[int]:
    """Token ids of running text without a chat template; control tokens count in trusted spans only.

    The text is encoded as a whole, so that words are cut as the model knows them, unless data would become a control
    token: then span by span.
    """
    control = control_token_ids(tokenizer)
    texts = [span.text.encode("utf-8", "replace").decode("utf-8") for span in spans]
    whole: list[int] = tokenizer.encode("".join(texts), add_special_tokens=False)
    pieces = [
        _encode_data(tokenizer, text) if span.is_data else _encode_trusted(tokenizer, text, start=False)
        for span, text in zip(spans, texts, strict=True)
    ]
    apart = [id for piece in pieces for id in piece]
    same_control = [id for id in whole if id in control] == [id for id in apart if id in control]
    return whole if same_control else apart


def control_token_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that mean something other than their text: every added token of two characters or more."""
    return frozenset(id for id, token in tokenizer.added_tokens_decoder.items() if len(token.content) > 1)


def _draw_sentinel(texts: Sequence[str]) -> str:
    """A word that stands in none of the texts: a hash of them all, drawn again if it does."""
    seed = hashlib.sha256(b"\0".join(text.encode("utf-8", "surrogatepass") for text in texts))
    while any((sentinel := f"d{seed.hexdigest()[:24]}n") in text for text in texts):
        seed.update(b"again")
    return sentinel


def _render(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], *, answers: bool = True) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return _BREAK.join(message["content"] for message in messages)
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=answers
        )
    except TemplateError as error:
        raise UserError(f"the model's chat template refuses roles {[m['role'] for m in messages]}: {error}") from error
    assert isinstance(text, str)
    return text


def _encode_trusted(tokenizer: Tokenizer, text: str, *, start: bool) -> list[int]:
    """Control tokens in the text count. A chat template writes its own BOS; without one the tokenizer's habit holds."""
    token_ids: list[int] = tokenizer.encode(text, add_special_tokens=False) if text else []
    if start and not tokenizer.chat_template and tokenizer.bos_token_id in tokenizer.encode(""):
        return [tokenizer.bos_token_id, *token_ids]  # pyright: ignore[reportReturnType]
    return token_ids


def _encode_data(tokenizer: Tokenizer, text: str) -> list[int]:
    """Cut each control token's text behind its first character, so that no piece spells one.

    A normalizer may still spell one out of look-alike characters: such a piece is encoded character by character.
    Lone surrogates, which are no text and which no tokenizer takes, become question marks.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    texts = [re.escape(token.content) for token in tokenizer.added_tokens_decoder.values() if len(token.content) > 1]
    cuts = [match.start() + 1 for match in re.finditer(f"(?={'|'.join(texts)})", text)] if texts else []
    forbidden = {id for id in control_token_ids(tokenizer) if id != tokenizer.unk_token_id}  # unknown text is text
    token_ids: list[int] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        ids = tokenizer.encode(text[start:end], add_special_tokens=False)
        if not forbidden.isdisjoint(ids):
            ids = [id for char in text[start:end] for id in tokenizer.encode(char, add_special_tokens=False)]
        token_ids += ids
    return token_ids
