"""What the HTTP service is asked, and what it answers; the schema that `/openapi.json` shows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from rewards.strict import StrictModel
from rewards.texts import MAX_GROUP, ChatMessage, GroupOfTexts, Text
from rewards.types import VerdictKind


class ScoreRequest(GroupOfTexts):
    """A prompt and its answers, to be ranked against each other."""

    matches: bool = True
    """Send the match log along."""


def whole_number(value: Any) -> Any:
    """6.0 is an integer to JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class GatherRequest(GroupOfTexts):
    """Some answers of a group; the service waits until all `group_size` have come, from whatever process."""

    candidates: Annotated[list[Text], Field(min_length=1, max_length=MAX_GROUP)]
    group_size: Annotated[int, Field(ge=2, le=MAX_GROUP), BeforeValidator(whole_number)]
    group: Text | None = None
    """A name that tells groups of one prompt apart; answers to other prompts, or with other fields, never share one."""
    ids: Annotated[list[Text], Field(max_length=MAX_GROUP)] | None = None
    """Of the answers, one each, so that a request that is sent again brings no second copy of them."""


class CompareRequest(StrictModel):
    """Two answers, shown to the judge in this order."""

    prompt: Text | Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    first: Text
    second: Text
    fields: Annotated[dict[Text, Text], Field(max_length=1024)] = Field(default_factory=dict)


class VerdictReply(StrictModel):
    """`value` is seen from the answer shown first; null exactly when `failure` names a cause.

    criteria: of a judge that goes through criteria, how much better the first is on each, in [-1, 1].
    written: requests among `attempts` that wrote criteria for the prompt.
    """

    value: float | None
    kind: VerdictKind
    failure: str | None
    reason: str
    judge: str
    latency_s: float
    tokens_in: int
    tokens_out: int
    cost: float
    attempts: int
    written: int
    criteria: dict[str, float]


class ErrorReply(StrictModel):
    error: str


_REASONS = {
    400: "no JSON, or cut short",
    401: "no valid bearer token",
    408: "the body came too slowly",
    413: "the body is too large",
    422: "the input is at fault",
    429: "too many requests at work",
    503: "the service is closing, or the judge is down",
    504: "the deadline has passed",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": reason} for status, reason in _REASONS.items()
}
