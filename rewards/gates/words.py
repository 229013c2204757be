"""Words and their sequences."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def normalized_words(text: str) -> list[str]:
    """Words without case and punctuation; an apostrophe inside a word belongs to it."""
    return [word.replace("’", "'") for word in _WORD.findall(text.casefold())]


def ngrams(items: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(items[start : start + size]) for start in range(len(items) - size + 1)]
