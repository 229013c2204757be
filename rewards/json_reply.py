"""The JSON object that ends a model's reply, read strictly: cut off, followed by text or doubtful is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from rewards.errors import JudgeFailure
from rewards.types import Completion

_END = re.compile(r"\s*(?:```)?\s*")
"""What may follow the object: the end of a code fence."""


def last_object(completion: Completion) -> tuple[Mapping[str, Any], str]:
    """The object that ends the reply, and the text before it.

    Raises:
        JudgeFailure: ("bad_reply") the reply was cut off, does not end with an object, or a key of it comes twice.
    """
    if completion.is_cut:
        raise JudgeFailure("bad_reply", "cut off at max_tokens; raise it")
    text, position = completion.text, 0
    while (start := text.find("{", position)) >= 0:
        try:
            found, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        if _END.fullmatch(text, end):
            return found, text[:start]
        position = end
    raise JudgeFailure("bad_reply", f"does not end with a JSON object: ...{text[-120:]!r}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)
