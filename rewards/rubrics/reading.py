"""What a model says of each criterion, read strictly: a reply that leaves one out is no verdict.

    {"criteria": [{"id": "accuracy", "evidence": "...", "reason": "...", "better": "A" | "B" | "same", "by": 0..scale}]}

Where the model also writes the criteria, each entry has a `text` and a `type` before its evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from rewards.errors import JudgeFailure
from rewards.rubric_config import ID_PATTERN, TYPE_WEIGHTS, Criterion
from rewards.rubrics.aggregate import Judged

SAME = "same"
MAX_TEXT = 500
"""Characters of a criterion that a model writes."""

_ID = re.compile(ID_PATTERN)


def read_comparison(
    reply: Mapping[str, Any], criteria: Sequence[Criterion], labels: tuple[str, str], *, extra: tuple[int, int] = (0, 0)
) -> list[Judged]:
    """One entry per criterion, those of `criteria` first and in their order.

    Args:
        labels: how the answer shown first and the other one are called.
        extra: how many criteria of the model's own there must be, at least and at most.

    Raises:
        JudgeFailure: ("bad_reply") a criterion is missing, comes twice or is unknown, or an entry is not as asked.
    """
    known = {criterion.id: criterion for criterion in criteria}
    judged: dict[str, Judged] = {}
    for entry in _entries(reply):
        name = entry.get("id")
        if not isinstance(name, str) or name in judged:
            raise _bad(f"id {name!r}", "each criterion once, by its id")
        if name in known:
            criterion = known[name]
        elif extra[1]:
            criterion = read_criterion(entry)
        else:
            raise _bad(f"id {name!r}", f"one of {', '.join(known)}")
        judged[name] = _judged(entry, criterion, labels)
    if missing := [name for name in known if name not in judged]:
        raise _bad("criteria", f"a verdict on each; {missing[0]!r} is missing")
    written = [one for name, one in judged.items() if name not in known]
    _count(len(written), extra)
    return [judged[name] for name in known] + written


def read_written(reply: Mapping[str, Any], taken: Sequence[Criterion], count: tuple[int, int]) -> tuple[Criterion, ...]:
    """Criteria that a model wrote: at least and at most so many, with ids of their own.

    Raises:
        JudgeFailure: ("bad_reply").
    """
    criteria = [read_criterion(entry) for entry in _entries(reply)]
    ids = [criterion.id for criterion in (*taken, *criteria)]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise _bad(f"id {twice!r}", "each criterion once, and none of the given ones")
    _count(len(criteria), count)
    return tuple(criteria)


def read_criterion(entry: Mapping[str, Any]) -> Criterion:
    """A criterion that a model wrote. It may not be fatal: what vetoes is the rubric's to say."""
    name, text, kind = entry.get("id"), entry.get("text"), entry.get("type")
    if not isinstance(name, str) or not _ID.fullmatch(name) or name in (*TYPE_WEIGHTS, "fatal"):
        raise _bad(f"id {name!r}", "up to 40 small letters, digits and '_', and no type's name")
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
        raise _bad(f"text of {name!r}", f"1 to {MAX_TEXT} characters")
    if not isinstance(kind, str) or kind not in TYPE_WEIGHTS:
        raise _bad(f"type of {name!r}", f"one of {', '.join(TYPE_WEIGHTS)}")
    try:
        return Criterion(id=name, text=" ".join(text.split()), type=kind)
    except ValidationError:
        raise _bad(f"text of {name!r}", "Unicode text, without half of a surrogate pair") from None


def comparison_schema(
    criteria: Sequence[Criterion], labels: tuple[str, str], *, extra: tuple[int, int] = (0, 0)
) -> Mapping[str, Any]:
    """JSON Schema of such a reply. Evidence and reason stand before the verdict, so that they are written before it."""
    ids: Mapping[str, Any] = {"type": "string"} if extra[1] else {"enum": [criterion.id for criterion in criteria]}
    written = {"text": {"type": "string"}, "type": {"type": "string"}} if extra[1] else {}
    entry = {
        "id": ids,
        **written,
        "evidence": {"type": "string"},
        "reason": {"type": "string"},
        "better": {"enum": [*labels, SAME]},
        "by": {"type": "integer", "minimum": 0, "maximum": max((c.scale for c in criteria), default=2)},
    }
    intent = {"intent": {"type": "string"}} if extra[1] else {}
    return _object({**intent, "criteria": {"type": "array", "items": _object(entry)}})


def written_schema() -> Mapping[str, Any]:
    entry = {"id": {"type": "string"}, "text": {"type": "string"}, "type": {"enum": list(TYPE_WEIGHTS)}}
    return _object({"intent": {"type": "string"}, "criteria": {"type": "array", "items": _object(entry)}})


def _judged(entry: Mapping[str, Any], criterion: Criterion, labels: tuple[str, str]) -> Judged:
    better, by, evidence, reason = (entry.get(key) for key in ("better", "by", "evidence", "reason"))
    if better not in (*labels, SAME):
        raise _bad(f"better of {criterion.id!r}", f"{labels[0]}, {labels[1]} or {SAME}")
    if isinstance(by, bool) or not isinstance(by, int) or not 0 <= by <= criterion.scale:
        raise _bad(f"by of {criterion.id!r}", f"a whole number from 0 to {criterion.scale}")
    if (better == SAME) != (by == 0):
        raise _bad(f"by of {criterion.id!r}", f"0 for {SAME}, and only then")
    if not isinstance(evidence, str) or not isinstance(reason, str) or (by and not evidence.strip()):
        raise _bad(f"evidence of {criterion.id!r}", "a text, and so is the reason")
    value = by / criterion.scale * (1.0 if better == labels[0] else -1.0)
    return Judged(criterion, value if by else 0.0, evidence, reason)


def _entries(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = reply.get("criteria")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _bad("criteria", "a list of objects")
    return entries


def _count(number: int, bounds: tuple[int, int]) -> None:
    if not bounds[0] <= number <= bounds[1]:
        raise _bad("criteria", f"{bounds[0]} to {bounds[1]} of your own, got {number}")


def _object(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _bad(what: str, rule: str) -> JudgeFailure:
    return JudgeFailure("bad_reply", f"{what[:100]}: must be {rule}")
