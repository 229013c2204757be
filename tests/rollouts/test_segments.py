"""Segments by token: whatever the tokens, a character's token lies in its span's segment."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from rewards.errors import UserError
from rewards.types import ParsedAnswer, Segment, TextSpan
from rollouts.segments import locate_segments, text_pieces, token_segments, token_starts
from rollouts.tasks.slate_answer import parse_answer
from rollouts.tiny import build_tiny_tokenizer

PROMPT = np.array([1, 40, 41], dtype=np.int32)
WORDS = ("<SLATE>", "</SLATE>", "</SLATE><RANK>", " i01")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return build_tiny_tokenizer(words=WORDS)


def ids_of(tokenizer: PreTrainedTokenizerBase, *pieces: str | int | bytes) -> np.ndarray:
    """Texts as the tokenizer likes, numbers as ids, bytes one token each."""
    ids: list[int] = []
    for piece in pieces:
        if isinstance(piece, int):
            ids.append(piece)
        elif isinstance(piece, bytes):
            ids += [tokenizer.get_vocab()[byte_token(byte)] for byte in piece]
        else:
            ids += tokenizer.encode(piece, add_special_tokens=False)
    return np.array(ids, dtype=np.int32)


def byte_token(byte: int) -> str:
    """The character by which byte-level BPE writes a byte (its own for printable ones, shifted up for others)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return chr(byte) if byte in plain else chr(256 + others.index(byte))


def slow_segments(spans: list[TextSpan], pieces: list[str], num_chars: int) -> dict[int, list[int]]:
    """Token by token: which span holds the next character of the text that is not written yet?"""
    members: dict[int, list[int]] = {}
    written = 0
    for token, piece in enumerate(pieces):
        for span in spans:
            reaches_end = span.end == num_chars and span.start < span.end
            if span.start <= written < span.end or (written >= num_chars and reaches_end):
                members.setdefault(span.id, []).append(token)
        written += len(piece)
    return members


@settings(max_examples=200)
@given(
    st.lists(st.text("ab<>é🙂", max_size=4), max_size=12),
    st.lists(st.integers(0, 40), min_size=1, max_size=4, unique=True),
    st.integers(0, 3),
)
def test_every_token_belongs_to_the_span_of_its_first_character(pieces: list[str], cuts: list[int], cut: int) -> None:
    text = "".join(pieces)
    num_chars = max(0, len(text) - min(cut, len(pieces[-1]) if pieces else 0))  # a stop text cuts inside the last token
    bounds = sorted({min(at, num_chars) for at in cuts})
    spans = [TextSpan(n, f"s{n}", low, high) for n, (low, high) in enumerate(pairwise(bounds))]
    segments = token_segments(spans, token_starts(pieces), num_chars)
    assert {one.id: list(range(one.start, one.end)) for one in segments} == slow_segments(spans, pieces, num_chars)


@settings(max_examples=25)
@given(st.data())
def test_any_tokenisation_of_a_text_gives_segments_that_decode_to_their_spans(data: st.DataObject) -> None:
    """Each character of `<SLATE>é🙂..` may be one token, or one per byte: the segments' texts stay what they were."""
    tokenizer = build_tiny_tokenizer(words=WORDS)
    blocks = ("thinkïng <SLATE> i01, é🙂</SLATE>", "\n<RANK>é🙂</RANK>")
    parts: list[str | bytes | int] = []
    for block in blocks:
        at = 0
        while at < len(block):
            size = data.draw(st.integers(1, 9))
            piece = block[at : at + size]
            parts.append(piece.encode() if data.draw(st.booleans()) else piece)
            at += size
    ids = ids_of(tokenizer, *parts, 2)
    text = "".join(blocks)
    parsed = parse_answer(text, {"i01", "é🙂"}, max_slate=2, max_rank=2)
    assert parsed.malformed is None
    located = locate_segments(parsed, text, tokenizer=tokenizer, prompt_token_ids=PROMPT, token_ids=ids)
    slate, rank = located.segments
    assert (slate.start, slate.end, rank.end) == (0, rank.start, len(ids))
    assert tokenizer.decode(ids[: slate.end].tolist()) == blocks[0]
    assert tokenizer.decode(ids[rank.start :].tolist(), skip_special_tokens=True) == blocks[1]


def test_a_character_of_several_tokens_starts_with_the_first_of_them(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = ids_of(tokenizer, "a", "🙂".encode(), "b", 2)
    pieces = text_pieces(tokenizer, PROMPT, ids)
    assert pieces == ["a", "", "", "", "🙂", "b", ""]
    assert token_starts(pieces).tolist() == [0, 1, 1, 1, 1, 2, 3]
    spans = (TextSpan(0, "a", 0, 1), TextSpan(1, "smile", 1, 2), TextSpan(2, "b", 2, 3))
    assert token_segments(spans, token_starts(pieces), 3) == (
        Segment(0, "a", 0, 1),
        Segment(1, "smile", 1, 5),
        Segment(2, "b", 5, 7),
    )


def test_a_token_over_a_border_goes_with_what_it_begins(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = ids_of(tokenizer, "<SLATE>", " i01", "</SLATE><RANK>", " i01", "</RANK>")
    text = "<SLATE> i01</SLATE><RANK> i01</RANK>"
    parsed = parse_answer(text, {"i01"}, max_slate=1, max_rank=1)
    located = locate_segments(parsed, text, tokenizer=tokenizer, prompt_token_ids=PROMPT, token_ids=ids)
    assert located.segments == (Segment(0, "slate", 0, 3), Segment(1, "rank", 3, len(ids)))


def test_a_stop_text_may_cut_the_last_token(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = ids_of(tokenizer, "<SLATE>", "</SLATE><RANK>")
    parsed = ParsedAnswer(spans=(TextSpan(0, "slate", 0, 15),))
    located = locate_segments(parsed, "<SLATE></SLATE>", tokenizer=tokenizer, prompt_token_ids=PROMPT, token_ids=ids)
    assert located.segments == (Segment(0, "slate", 0, 2),)


def test_bytes_that_are_no_text_are_decoded_as_vllm_does(tokenizer: PreTrainedTokenizerBase) -> None:
    """Lone continuation bytes, then text: vLLM's stream starts anew where the prefix breaks."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        ids = rng.integers(3, 259, size=20).astype(np.int32)
        pieces = text_pieces(tokenizer, PROMPT, ids)
        assert len(pieces) == 20


def test_segments_without_tokens_are_none() -> None:
    spans = (TextSpan(0, "a", 0, 1), TextSpan(1, "inside", 1, 2), TextSpan(2, "b", 2, 4))
    assert [one.name for one in token_segments(spans, token_starts(["xyz", "w"]), 4)] == ["a", "b"]
    assert token_segments((TextSpan(0, "a", 0, 0),), token_starts([]), 0) == ()


@pytest.mark.parametrize("spans", [[(0, 3), (2, 4)], [(3, 2)], [(0, 9)]])
def test_spans_that_overlap_or_leave_the_text_are_bugs(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="overlaps the one before it or leaves the text"):
        token_segments([TextSpan(n, "s", *span) for n, span in enumerate(spans)], token_starts(["abcd"]), 4)


def test_ids_that_say_something_else_are_a_bug(tokenizer: PreTrainedTokenizerBase) -> None:
    parsed = ParsedAnswer(spans=(TextSpan(0, "slate", 0, 1),))
    with pytest.raises(ValueError, match="decode to 'abc', the engine's text is 'abd'"):
        locate_segments(parsed, "abd", tokenizer=tokenizer, prompt_token_ids=PROMPT, token_ids=ids_of(tokenizer, "abc"))


def test_a_slow_tokenizer_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match=r"tokenizer object has no fast version.*tokenizer\.json"):
        text_pieces(object(), PROMPT, np.array([1], dtype=np.int32))  # pyright: ignore[reportArgumentType]
