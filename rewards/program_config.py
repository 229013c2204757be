"""`judge.by` of a program judge: what is measured of each answer, without a model. Larger is better."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from rewards.json_schema import checked
from rewards.strict import StrictModel


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


class LengthProgram(StrictModel):
    """Closer to `target` is better: 1 / (1 + |length - target| / target)."""

    kind: Literal["length"]
    target: Annotated[int, Field(ge=1)]
    unit: Literal["words", "characters"] = "words"


class RegexProgram(StrictModel):
    """1 where the pattern is found in the answer, else 0; with `avoid` the other way round."""

    kind: Literal["regex"]
    pattern: Annotated[str, AfterValidator(_compiles)]
    """Python's syntax; `(?i)` at the start ignores case. Some patterns take exponential time on some texts."""
    avoid: bool = False


class NumberProgram(StrictModel):
    """Closer to the number in the prompt's field is better: 1 / (1 + distance / tolerance); 0 without a number."""

    kind: Literal["number"]
    reference_field: str
    tolerance: Annotated[float, Field(gt=0)] = 1.0
    """The distance that is worth one half."""
    answer_field: str | None = None
    """Parsed field of the answer that holds its number; default: the last number of its text."""


class JsonSchemaProgram(StrictModel):
    """1 for JSON that the schema allows, 1 / (1 + number of errors) for other JSON, 0 for what is no JSON.

    0 as well for JSON that cannot be checked: nested too deep, too large a number, a pattern that takes too long.
    """

    kind: Literal["json_schema"]
    schema_: Annotated[dict[str, JsonValue], AfterValidator(checked), Field(alias="schema")]
    """A JSON Schema (draft 2020-12, if `$schema` names no other); `$ref` only inside it."""


class RankingProgram(StrictModel):
    """nDCG or recall of a ranked answer against the gains in a field of the prompt."""

    kind: Literal["ranking"]
    reference_field: str
    """JSON: an object from item to gain, or a list of the relevant items."""
    metric: Literal["ndcg", "recall"] = "ndcg"
    k: Annotated[int, Field(ge=1)] = 10
    answer_field: str | None = None
    """Parsed field of the answer that lists items, best first; default: the lines of its text."""


Program = Annotated[
    LengthProgram | RegexProgram | NumberProgram | JsonSchemaProgram | RankingProgram, Field(discriminator="kind")
]


def reference_field(program: Any) -> str | None:
    """The prompt's field that a program reads, if any."""
    return getattr(program, "reference_field", None)
