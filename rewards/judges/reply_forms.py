"""What a chat judge may be asked for, the JSON Schema of such a reply, and how it is read.

    winner       {"reason": ..., "winner": "A" | "B" | "tie"}           hard
    probability  {"reason": ..., "probability": 0.8}, that A is better   probability
    scores       {"reason": ..., "score_A": 7.5, "score_B": 6}           score: the difference
    ranking      {"reason": ..., "ranking": [["B"], ["A", "C"]]}         places, best first, level ones in one list

Each reading raises JudgeFailure ("bad_reply") for a reply that says something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rewards.errors import JudgeFailure
from rewards.types import VerdictKind

TIE = "tie"
Labels = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """kind: of one vote. schema: from the labels of the two answers. read: the value seen from the first."""

    kind: VerdictKind
    schema: Callable[[Labels], Mapping[str, Any]]
    read: Callable[[Mapping[str, Any], Labels], float]


def object_schema(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object with a reason, which comes first so that it is written before the verdict, and `properties`."""
    properties = {"reason": {"type": "string"}, **properties}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_ranking(reply: Mapping[str, Any], labels: Sequence[str]) -> tuple[int, ...]:
    """Places of the labelled answers: how many are better."""
    tiers = reply.get("ranking")
    if not isinstance(tiers, list) or not all(isinstance(tier, str | list) for tier in tiers):
        raise _bad("ranking", tiers, "a list of labels or of lists of labels")
    places: dict[str, int] = {}
    for tier in tiers:
        named = [tier] if isinstance(tier, str) else tier
        above = len(places)
        for label in named:
            if label not in labels or label in places:
                raise _bad("ranking", tiers, f"each of {', '.join(labels)} once")
            places[label] = above
    if len(places) < len(labels):
        raise _bad("ranking", tiers, f"each of {', '.join(labels)} once")
    return tuple(places[label] for label in labels)


def ranking_schema(labels: Sequence[str]) -> Mapping[str, Any]:
    tier = {"type": "array", "items": {"type": "string", "enum": list(labels)}}
    return object_schema({"ranking": {"type": "array", "items": tier}})


def _winner_schema(labels: Labels) -> Mapping[str, Any]:
    return object_schema({"winner": {"type": "string", "enum": [*labels, TIE]}})


def _read_winner(reply: Mapping[str, Any], labels: Labels) -> float:
    values = {labels[0]: 1.0, labels[1]: 0.0, TIE: 0.5}
    said = reply.get("winner")
    said = said.strip() if isinstance(said, str) else said
    said = TIE if isinstance(said, str) and said.lower() == TIE else said
    if not isinstance(said, str) or said not in values:
        raise _bad("winner", said, f"{labels[0]}, {labels[1]} or {TIE}")
    return values[said]


def _probability_schema(labels: Labels) -> Mapping[str, Any]:
    return object_schema({"probability": {"type": "number", "minimum": 0, "maximum": 1}})


def _read_probability(reply: Mapping[str, Any], labels: Labels) -> float:
    said = _number(reply, "probability")
    if not 0.0 <= said <= 1.0:
        raise _bad("probability", said, "a number from 0 to 1")
    return said


def _scores_schema(labels: Labels) -> Mapping[str, Any]:
    return object_schema({f"score_{label}": {"type": "number"} for label in labels})


def _read_scores(reply: Mapping[str, Any], labels: Labels) -> float:
    first, second = (_number(reply, f"score_{label}") for label in labels)
    return first - second


def _number(reply: Mapping[str, Any], key: str) -> float:
    said = reply.get(key)
    # A number of a thousand digits is JSON and no float.
    if isinstance(said, bool) or not isinstance(said, int | float) or abs(said) > 1e12 or not math.isfinite(said):
        raise _bad(key, said, "a number")
    return float(said)


def _bad(key: str, said: Any, rule: str) -> JudgeFailure:
    return JudgeFailure("bad_reply", f"{key} is {rule}, got {str(said)[:100]!r}")


REPLY_FORMS: Mapping[str, ReplyForm] = MappingProxyType(
    {
        "winner": ReplyForm("hard", _winner_schema, _read_winner),
        "probability": ReplyForm("probability", _probability_schema, _read_probability),
        "scores": ReplyForm("score", _scores_schema, _read_scores),
    }
)
