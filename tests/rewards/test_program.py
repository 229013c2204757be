"""Program judges: every measure by hand, and verdicts out of measures."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rewards.errors import UserError
from rewards.judge_config import ProgramJudge
from rewards.judges import build_judge
from rewards.judges.programs import PROGRAMS
from rewards.judges.programs.number import last_number
from rewards.program_config import Program
from rewards.strict import config_kinds
from rewards.types import Candidate, ParsedAnswer, Prompt

PROMPT = Prompt(
    "p",
    "How many?",
    fields={
        "answer": "It is 42.",
        "gains": '{"a": 3, "b": 2, "c": 0}',
        "relevant": '["a", "b"]',
        "bad": "none",
        "large": f'{{"a": 1{"0" * 400}}}',
        "deep": "[" * 9999,
    },
)


def measure(text: str, fields: dict[str, Any] | None = None, **by: Any) -> float:
    config: Any = TypeAdapter(Program).validate_python(by)
    candidate = Candidate("0", text, parsed=ParsedAnswer(fields=fields or {}))
    return PROGRAMS[config.kind](config).measure(PROMPT, candidate)


def test_every_program_has_a_builder() -> None:
    assert set(config_kinds(Program)) == set(PROGRAMS)


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("one two three four", "words", 1.0),
        ("one two", "words", 2 / 3),
        ("", "words", 0.5),
        ("abcdefgh", "characters", 0.5),
    ],
)
def test_length(text: str, unit: str, expected: float) -> None:
    assert measure(text, kind="length", target=4, unit=unit) == pytest.approx(expected)


def test_regex() -> None:
    assert measure("so: YES", kind="regex", pattern="(?i)yes$") == 1.0
    assert measure("no", kind="regex", pattern="yes") == 0.0
    assert measure("no", kind="regex", pattern="yes", avoid=True) == 1.0
    with pytest.raises(ValidationError, match="is no regular expression"):
        measure("", kind="regex", pattern="(")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("first 3, then -1,234.5", -1234.5),
        ("x = 2e-3.", 0.002),
        ("7", 7.0),
        ("12,34", 34.0),
        ("v1.2a and b3", None),
        ("none", None),
        ("1e999", None),
        ("٣", 3.0),
    ],
)
def test_the_last_number(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_number() -> None:
    by: dict[str, Any] = {"kind": "number", "reference_field": "answer"}
    assert measure("42", **by) == 1.0
    assert measure("about 40", **by, tolerance=2.0) == 0.5
    assert measure("no idea", **by) == 0.0
    assert measure("7", {"said": 42}, **by, answer_field="said") == 1.0
    assert measure("42", **by, answer_field="said") == 0.0
    with pytest.raises(UserError, match="no number in 'bad'"):
        measure("1", kind="number", reference_field="bad")
    with pytest.raises(UserError, match="did you mean 'answer'"):
        measure("1", kind="number", reference_field="anwser")


def test_json_schema() -> None:
    schema = {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}}}
    by: dict[str, Any] = {"kind": "json_schema", "schema": schema}
    assert measure('{"a": 1, "b": 2}', **by) == 1.0
    assert measure('```json\n{"a": 1, "b": 2}\n```', **by) == 1.0
    assert measure('{"a": "one"}', **by) == pytest.approx(1 / 3)  # wrong type, b is missing
    assert measure('{"a": NaN, "b": 1}', **by) == 0.0
    assert measure("a, b", **by) == 0.0
    assert measure("[" * 100_000, **by) == 0.0
    for text in ("[" * 400 + "]" * 400, "1e400", "1" * 400, '{"a": 1, "a": 1}'):
        assert measure(text, kind="json_schema", schema={"multipleOf": 0.01, "items": {"$ref": "#"}}) == 0.0
    for broken in ({"type": "thing"}, {"$ref": "http://127.0.0.1:9/"}):
        with pytest.raises(ValidationError, match=r"no JSON Schema|leads to nothing"):
            measure("1", kind="json_schema", schema=broken)


def test_ranking() -> None:
    by: dict[str, Any] = {"kind": "ranking", "reference_field": "gains"}
    best = 3 + 2 / math.log2(3)
    assert measure("a\n b \nc", **by) == 1.0
    assert measure("b\na", **by) == pytest.approx((2 + 3 / math.log2(3)) / best)
    assert measure("x\na", **by, k=1) == 0.0
    assert measure("a\na\na\nb", **by) == 1.0  # named twice counts once
    assert measure("", {"order": ["a", "b"]}, **by, answer_field="order") == 1.0
    assert measure("a", {"order": "ab"}, **by, answer_field="order") == 0.0
    recall: dict[str, Any] = {"kind": "ranking", "reference_field": "relevant", "metric": "recall"}
    assert measure("a\nx\nb", **recall) == 1.0
    assert measure("a\nx\nb", **recall, k=2) == 0.5
    for field in ("bad", "answer", "large", "deep"):
        with pytest.raises(UserError, match="no JSON object of gains"):
            measure("a", kind="ranking", reference_field=field)


@given(
    gains=st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 5), min_size=1),
    order=st.permutations(list("abcdef")),
    k=st.integers(1, 8),
)
def test_ndcg_is_a_share_of_the_best_order(gains: dict[str, float], order: list[str], k: int) -> None:
    """Against all that a slow look says: positions summed one by one."""
    prompt = Prompt("p", "", fields={"g": json.dumps(gains)})
    config: Any = TypeAdapter(Program).validate_python({"kind": "ranking", "reference_field": "g", "k": k})
    value = PROGRAMS["ranking"](config).measure(prompt, Candidate("0", "\n".join(order)))
    best = sorted(gains, key=lambda item: -gains[item])
    dcg = [
        sum(gains.get(item, 0.0) / math.log2(rank + 1) for rank, item in enumerate(items, 1) if rank <= k)
        for items in (order, best)
    ]
    assert value == pytest.approx(dcg[0] / dcg[1])
    assert -1e-9 <= value <= 1 + 1e-9


@pytest.mark.parametrize(("verdict", "values"), [("hard", (1.0, 0.0, 0.5)), ("score", (1 / 3, -1 / 3, 0.0))])
async def test_verdicts(verdict: str, values: tuple[float, ...]) -> None:
    by: dict[str, Any] = {"kind": "length", "target": 2}
    judge = build_judge(ProgramJudge.model_validate({"kind": "program", "by": by, "verdict": verdict}))
    assert (judge.kind, judge.symmetric, judge.name) == (verdict, True, "program:length")
    two, one, three = Candidate("0", "a b"), Candidate("1", "a"), Candidate("2", "a b c")
    said = [(await judge.compare(PROMPT, *pair)).value for pair in ((two, one), (one, two), (one, three))]
    assert said == pytest.approx(values)
    assert (await judge.rank(PROMPT, [one, two, three])).places == (1, 0, 1)  # pyright: ignore[reportAttributeAccessIssue]
