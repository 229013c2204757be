"""Matches read line by line: slower than pyarrow, and able to say which line is wrong, and how."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewards.rank_rows import encode_groups
from rewards.verdict_rows import VerdictRows, encode

EXAMPLE = '{"a": "x", "b": "y", "score": 1}'

REQUIRED, OPTIONAL = ("a", "b", "score"), ("weight", "group", "judge")
TEXTS, NUMBERS = ("a", "b", "group", "judge"), ("score", "weight")
_SHOWN = 60


@dataclass(frozen=True, slots=True, eq=False)
class LineReading:
    """Rows before the first line that could not be read, and the line of each, from 1.

    fault: what is wrong with that line, as "LINE: key: value; cure", or None.
    """

    rows: VerdictRows
    line_R: Sequence[int]
    fault: str | None


class _Fault(Exception):
    """What is wrong with a line."""


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key given twice is seen."""


def read_lines(data: bytes) -> LineReading:
    """Reads until the end or the first line that is no match; blank lines are skipped."""
    columns: dict[str, list[Any]] = {key: [] for key in (*REQUIRED, *OPTIONAL)}
    line_R: list[int] = []
    fault = None
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _row(line)
        except _Fault as found:
            fault = f"{number}: {found}"
            break
        for key, values in columns.items():
            values.append(row.get(key))
        line_R.append(number)
    a, b = encode(columns["a"], columns["b"])
    rows = VerdictRows(
        a=a,
        b=b,
        score_R=np.array(columns["score"], dtype=np.float64),
        weight_R=np.array([1.0 if weight is None else weight for weight in columns["weight"]], dtype=np.float64),
        group=encode_groups(columns["group"], len(line_R)),
        judge=encode(["" if judge is None else judge for judge in columns["judge"]])[0],
    )
    return LineReading(rows, line_R, fault)


def _row(line: bytes) -> dict[str, Any]:
    try:
        pairs = json.loads(line.decode(), object_pairs_hook=_Object)
    except UnicodeDecodeError as error:
        raise _Fault(f"not UTF-8 at byte {error.start + 1}; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise _Fault(f"not JSON: {error.msg} at character {error.pos + 1}; give one object a line: {EXAMPLE}") from None
    except (ValueError, RecursionError):
        raise _Fault(f"thousands of digits or brackets; give one object a line: {EXAMPLE}") from None
    if not isinstance(pairs, _Object):
        raise _Fault(f"{_shown(pairs)} is not a match; give one object a line: {EXAMPLE}")
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row and key in (*REQUIRED, *OPTIONAL):
            raise _Fault(f"{key}: given twice; keep one")
        row[key] = value
    for key in REQUIRED:
        if key not in row:
            raise _Fault(f"{key}: missing; {_cure_of_missing(key, row)}")
    for key in (*REQUIRED, *OPTIONAL):
        value = row.get(key)
        if value is None and key in OPTIONAL:
            continue
        if key in TEXTS:
            _check_text(key, value)
        else:
            row[key] = _number(key, value)
    return row


def _check_text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _Fault(f"{key}: {_shown(value)}; must be text in quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Fault(f"{key}: {value!a}; must be Unicode text, without half of a surrogate pair") from None


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Fault(f"{key}: {_shown(value)}; must be a number, without quotes")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _cure_of_missing(key: str, row: dict[str, Any]) -> str:
    others = [other for other in row if other not in (*REQUIRED, *OPTIONAL)]
    nearest = difflib.get_close_matches(key, [other.lower() for other in others], n=1)
    if nearest:
        meant = next(other for other in others if other.lower() == nearest[0])
        return f"rename {_shown(meant)} to {_shown(key)}"
    return f"every line needs it: {EXAMPLE}"


def _shown(value: Any) -> str:
    if isinstance(value, _Object):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
