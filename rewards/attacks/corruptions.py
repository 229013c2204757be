"""Minimal edits that make an answer wrong: one number, one negation, two names. A text without one comes back as is.

They know words, not facts: now and then an edit leaves an answer right ("Rome and Paris" for "Paris and Rome").
"""

from __future__ import annotations

import re

import numpy as np

_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)")
_LIST_MARK = re.compile(r"^\s*\d+[.)](?:\s|$)", re.MULTILINE)
_VERB = re.compile(r"\b(is|are|was|were|has|have|had|can|will|would|should|could|must|does|do|did)\b(?!['’])( not\b)?")
_NAME = re.compile(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)*\b")
_INSIDE = re.compile(r"[\w,;:)'\"] $")
"""What stands before a word that begins no sentence."""


def changed_number(text: str, lots: np.random.Generator) -> str:
    """The first digit of one number becomes another one, and no zero; the numbers of a list's items are left alone."""
    marks = [mark.span() for mark in _LIST_MARK.finditer(text)]
    found = [
        number for number in _NUMBER.finditer(text) if not any(low <= number.start() < high for low, high in marks)
    ]
    if not found:
        return text
    at = found[lots.integers(len(found))].start()
    others = [digit for digit in "123456789" if digit != text[at]]
    return text[:at] + others[lots.integers(len(others))] + text[at + 1 :]


def flipped_negation(text: str, lots: np.random.Generator) -> str:
    """One verb gets a "not", or loses the one that it has."""
    found = list(_VERB.finditer(text))
    if not found:
        return text
    verb = found[lots.integers(len(found))]
    flipped = verb[1] if verb[2] else f"{verb[1]} not"
    return text[: verb.start()] + flipped + text[verb.end() :]


def swapped_names(text: str, lots: np.random.Generator) -> str:
    """Two names change places everywhere; a name is a capitalised word that somewhere begins no sentence."""
    names = sorted(
        {word[0] for word in _NAME.finditer(text) if _INSIDE.search(text, max(0, word.start() - 2), word.start())}
    )
    if len(names) < 2:
        return text
    one, other = (names[number] for number in lots.choice(len(names), size=2, replace=False))
    swap = {one: other, other: one}
    return re.sub(rf"\b(?:{one}|{other})\b", lambda word: swap[word[0]], text)
