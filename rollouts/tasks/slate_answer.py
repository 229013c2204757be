"""Reads `<SLATE>..</SLATE><RANK>..</RANK>`: strict, and says where each segment stands.

    thinking <SLATE> a, b, c </SLATE> \\n <RANK> b, a </RANK>
    |------- slate -----------------| |------- rank -------|        segments `phases`; tags belong to what they delimit
                                      |-- item1 --|- item2 -|       segments `items`: one per place of the ranking

White space between the blocks goes with the rank, what ends the answer with the last segment.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from rewards.types import ParsedAnswer, TextSpan

OPEN_SLATE, CLOSE_SLATE, OPEN_RANK, CLOSE_RANK = TAGS = ("<SLATE>", "</SLATE>", "<RANK>", "</RANK>")

_ID = re.compile(r"[^\s,]+")


class _MalformedError(Exception):
    """Why an answer cannot be read."""


def parse_answer(
    text: str,
    pool: Collection[str],
    *,
    max_slate: int,
    max_rank: int,
    segments: Literal["phases", "items"] = "phases",
    preamble: Literal["first", "none"] = "first",
) -> ParsedAnswer:
    """Fields `slate` and `rank` (ids in the order given) and the spans of the segments.

    Malformed: a tag that is missing, comes twice or out of order; text between the blocks or behind them; an empty
    block; an id that is not in the pool, or twice in a block; a ranked id that is not in the slate; a block that is too
    long. A malformed answer has no fields and one span over the whole text, of the first segment.
    """
    first = "slate" if segments == "phases" else "item1"
    try:
        blocks = _blocks(text)
        slate = _ids(text, blocks[0], pool, max_slate, "slate")
        rank = _ids(text, blocks[1], pool, max_rank, "rank")
        listed = {name for name, _ in slate}
        if strangers := [name for name, _ in rank if name not in listed]:
            raise _MalformedError(f"ranks {strangers[0]!r}, which is not in its slate")
    except _MalformedError as error:
        return ParsedAnswer(spans=(TextSpan(0, first, 0, len(text)),), malformed=str(error))
    if segments == "phases":
        ends = [("slate", blocks[0][1] + len(CLOSE_SLATE)), ("rank", len(text))]
        start = blocks[0][0] - len(OPEN_SLATE)
    else:
        ends = [(f"item{place}", end) for place, (_, end) in enumerate(rank, start=1)]
        ends[-1] = (ends[-1][0], len(text))
        start = blocks[1][0] - len(OPEN_RANK)
    spans: list[TextSpan] = []
    start = 0 if preamble == "first" else start
    for number, (name, end) in enumerate(ends):
        spans.append(TextSpan(number, name, start, end))
        start = end
    fields = {"slate": [name for name, _ in slate], "rank": [name for name, _ in rank]}
    return ParsedAnswer(fields=fields, spans=tuple(spans))


def _blocks(text: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Characters inside the two blocks."""
    places: list[int] = []
    for tag in TAGS:
        if text.count(tag) != 1:
            raise _MalformedError(f"has {text.count(tag)} {tag} tags, not one")
        places.append(text.index(tag))
    if places != sorted(places):
        raise _MalformedError("has its tags out of order")
    open_slate, close_slate, open_rank, close_rank = places
    if text[close_slate + len(CLOSE_SLATE) : open_rank].strip():
        raise _MalformedError("has text between its blocks")
    if text[close_rank + len(CLOSE_RANK) :].strip():
        raise _MalformedError("has text behind its blocks")
    return (open_slate + len(OPEN_SLATE), close_slate), (open_rank + len(OPEN_RANK), close_rank)


def _ids(text: str, block: tuple[int, int], pool: Collection[str], most: int, name: str) -> list[tuple[str, int]]:
    """Ids of a block, each with the character behind it; commas or white space separate them."""
    found = [(match[0], match.end()) for match in _ID.finditer(text, *block)]
    ids = [one for one, _ in found]
    if not found:
        raise _MalformedError(f"has an empty {name}")
    if len(found) > most:
        raise _MalformedError(f"has {len(found)} ids in its {name}, more than {most}")
    if strangers := [one for one in ids if one not in pool]:
        raise _MalformedError(f"names {strangers[0][:40]!r}, which is not in the pool")
    if len(set(ids)) < len(ids):
        raise _MalformedError(f"names an id twice in its {name}")
    return found
