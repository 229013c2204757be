"""Schemas: what is refused when a recipe is read, what an answer can do to one, and jsonschema's word on all others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from rewards.json_schema import Schema

SLOW = "^(a|aa)+$"
META = "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"type": "thing"}, "no JSON Schema: type: 'thing' is not valid"),
        ({"properties": {"a": {"type": 3}}}, "no JSON Schema: properties.a.type"),
        ({"$ref": "#/$defs/nope"}, "'#/\\$defs/nope' leads to nothing"),
        ({"properties": {"a": {"not": {"$ref": "#nope"}}}}, "'#nope' leads to nothing"),
        ({"$dynamicRef": "#nope"}, "'#nope' leads to nothing"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "schema.json' leads to nothing"),
        ({"$ref": "other.json"}, "'other.json' leads to nothing"),
        ({"$ref": "http://[x"}, "leads to nothing"),
        ({"$ref": "#/enum/a", "enum": ["b"]}, "leads to nothing"),
        ({"$ref": "#/enum", "enum": ["b"]}, "no JSON Schema: the schema"),
        ({"$ref": "#/parts/x", "parts": {"x": {"type": "thing"}}}, "no JSON Schema: type"),
        ({"$ref": "#/parts/x", "parts": {"x": {"items": {"$ref": "#/parts/y"}}}}, "'#/parts/y' leads to nothing"),
        ({"pattern": "("}, "no JSON Schema: pattern"),
        ({"pattern": "a{e<1"}, "'a{e<1' is no regular expression"),
        ({"$defs": {"x": {"patternProperties": {"a{e<1": {}}}}}, "'a{e<1' is no regular expression"),
        ({"$schema": "http://127.0.0.1:9/draft"}, "is no draft of JSON Schema known here"),
        ({"$schema": 5}, "is no draft of JSON Schema known here"),
        ({"$defs": {"x": {"$schema": META}}}, "\\$schema: may stand at the top only"),
        ({"unevaluatedProperties": False, "allOf": [{"patternProperties": {"a": {}}}]}, "use additionalProperties"),
    ],
)
def test_what_is_refused_when_it_is_read(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Schema(rules)


@pytest.mark.parametrize(
    "rules",
    [
        {"$ref": META},
        {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/x", "definitions": {"x": {}}},
        {"$id": "http://a/b", "items": {"$ref": "b#there"}, "$defs": {"x": {"$anchor": "there"}}},
        {
            "items": {"$id": "http://a/c", "$ref": "#/$defs/x", "$defs": {"x": {"$ref": "d"}}},
            "$defs": {"d": {"$id": "http://a/d"}},
        },
        {"const": {"$ref": "#/nope"}, "properties": {"$ref": {}}},
        {"$ref": "#/parts/x", "parts": {"x": {"items": {"$ref": "#"}}}},
    ],
)
def test_references_that_stay_inside(rules: dict[str, Any]) -> None:
    Schema(rules).errors("[[{}]]", 9)


@pytest.mark.parametrize(
    ("rules", "text", "words"),
    [
        ({"multipleOf": 0.01}, "1e400", "cannot be checked: "),
        ({"multipleOf": 0.01}, "1" * 400, "cannot be checked: "),
        ({"items": {"$ref": "#"}}, "[" * 400 + "]" * 400, "cannot be checked: "),
        ({"$ref": "#"}, "1", "cannot be checked: "),
        ({}, "[" * 50_000, "not JSON: "),
        ({}, "NaN", "not JSON: NaN is no JSON number"),
        ({}, '{"a": 1, "a": 1}', "not JSON: a key stands twice"),
        ({"pattern": SLOW}, f'"{"a" * 60}!"', "took longer than 0.05 s"),
        ({"patternProperties": {SLOW: {}}}, f'{{"{"a" * 60}!": 1}}', "took longer than 0.05 s"),
        # Without a rule of their own the patterns are searched for the sake of what is left over.
        ({"additionalProperties": False, "patternProperties": {SLOW: {}}}, f'{{"{"a" * 60}!": 1}}', "took longer"),
        ({"not": {"propertyNames": {"pattern": SLOW}}}, f'{{"{"a" * 60}!": 1}}', "took longer"),
        ({"$schema": META, "items": {"$ref": "#"}, "pattern": SLOW}, f'["{"a" * 60}!"]', "took longer"),
    ],
)
def test_what_cannot_be_held_against_it(
    rules: dict[str, Any], text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewards.json_schema.PATTERN_TIMEOUT_S", 0.05)
    with pytest.raises(ValueError, match=words):
        Schema(rules).errors(text, 1)


def test_no_more_errors_than_asked_for() -> None:
    assert [len(Schema({"items": {"type": "null"}}).errors("[1, 2, 3]", at_most)) for at_most in (1, 2, 9)] == [1, 2, 3]


PATTERNS = st.sampled_from(["^a", "b$", "a|b", "^$", "."])
LEAVES = st.one_of(
    st.booleans(),
    st.sampled_from([{"type": "string"}, {"type": "object"}, {"const": 1}, {"minimum": 1}]),
    st.builds(lambda pattern: {"pattern": pattern}, PATTERNS),
)
RULES = st.recursive(
    LEAVES,
    lambda rules: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from(["a", "ab", "b"]), rules, max_size=2),
            "patternProperties": st.dictionaries(PATTERNS, rules, max_size=2),
            "additionalProperties": rules,
            "items": rules,
            "not": rules,
        },
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["", "a", "ba"]),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(st.sampled_from(["a", "ab", "ba", "c"]), values),
    max_leaves=4,
)


@given(rules=RULES.filter(lambda rules: isinstance(rules, dict)), value=VALUES)
def test_jsonschema_says_the_same(rules: dict[str, Any], value: Any) -> None:
    ours, theirs = Schema(rules).errors(json.dumps(value), 99), Draft202012Validator(rules).iter_errors(value)
    assert said(ours) == said(theirs)


def said(errors: Iterable[Any]) -> list[tuple[str, list[Any]]]:
    return sorted(((error.validator, list(error.absolute_path)) for error in errors), key=str)
