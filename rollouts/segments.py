"""From a segment's characters to its tokens, by the sampled ids: nothing is tokenised again.

    token ids --incremental detokenisation, as vLLM does it--> starts_T: characters of the text before each token
    starts_T, spans (characters, found by a task) --> segments (tokens)

A token belongs to the span that holds its first character: the policy chose it there. A character that several tokens
make up starts where the first of them does. Tokens without text behind the answer (the end of the turn) go with the
span that reaches the end of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from tokenizers.decoders import DecodeStream

from rewards.errors import UserError
from rewards.types import ParsedAnswer, Segment, TextSpan
from rollouts.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BROKEN_PREFIX = "Invalid prefix encountered"
"""How `tokenizers` says that bytes before this token were no text after all."""


def locate_segments(
    parsed: ParsedAnswer,
    text: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    prompt_token_ids: IntArray,
    token_ids: IntArray,
) -> ParsedAnswer:
    """The parsed answer with a segment for each of its spans.

    Args:
        text: as the engine gave it, which a stop text may have cut within its last token.

    Raises:
        UserError: a tokenizer that cannot be decoded token by token.
        ValueError: the ids do not decode to the text, or spans that overlap or leave it.
    """
    if not parsed.spans:
        return parsed
    pieces = text_pieces(tokenizer, prompt_token_ids, token_ids)
    if not "".join(pieces).startswith(text):
        raise ValueError(f"the token ids decode to {''.join(pieces)[:80]!r}, the engine's text is {text[:80]!r}")
    return replace(parsed, segments=token_segments(parsed.spans, token_starts(pieces), len(text)))


def text_pieces(tokenizer: PreTrainedTokenizerBase, prompt_token_ids: IntArray, token_ids: IntArray) -> list[str]:
    """What each answer token adds to the text; a token in the middle of a character, or a special one, adds ""."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"model.path: tokenizer {type(tokenizer).__name__} has no fast version, which segments need to tell which "
            "tokens a text is made of; use a model with a tokenizer.json"
        )
    stream = DecodeStream(ids=prompt_token_ids.tolist(), skip_special_tokens=True)
    pieces: list[str] = []
    for token in token_ids.tolist():
        try:
            piece = stream.step(backend, token)
        except Exception as error:  # tokenizers raises no narrower type
            if not str(error).startswith(_BROKEN_PREFIX):
                raise
            stream = DecodeStream(skip_special_tokens=True)  # vLLM starts anew here too
            piece = stream.step(backend, token)
        pieces.append(piece or "")
    return pieces


def token_starts(pieces: Sequence[str]) -> IntArray:
    """starts_T: characters of the text before each token, from what each token adds to it."""
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int32)
    return (np.cumsum(lengths) - lengths).astype(np.int32)


def token_segments(spans: Sequence[TextSpan], starts_T: IntArray, num_chars: int) -> tuple[Segment, ...]:
    """The tokens of each span, in the order of the text; a span in which no token starts has no segment.

    Args:
        num_chars: characters of the text, which all spans lie in.

    Raises:
        ValueError: spans that overlap, are turned round or leave the text.
    """
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    end = 0
    segments: list[Segment] = []
    for span in ordered:
        if not end <= span.start <= span.end <= num_chars:
            raise ValueError(f"span {span} overlaps the one before it or leaves the text of {num_chars} characters")
        end = span.end
        first = int(np.searchsorted(starts_T, span.start))
        last = len(starts_T) if end == num_chars else int(np.searchsorted(starts_T, end))
        if first < last:
            segments.append(Segment(span.id, span.name, first, last))
    return tuple(segments)
