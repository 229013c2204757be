"""What a recipe's YAML means, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recipes.nodes import plain
from recipes.yaml_text import MAX_DEPTH, parse_yaml

HERE = Path("/somewhere")


def read(text: str) -> Any:
    node, faults = parse_yaml(text, "r.yaml", HERE)
    assert node is not None
    assert faults == []
    return plain(node)


def refused(text: str) -> list[str]:
    _, faults = parse_yaml(text, "r.yaml", HERE)
    assert faults
    assert all("\n" not in str(fault) for fault in faults)
    return [str(fault) for fault in faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("2E+3", 2000.0),
        ("5e3", 5000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0.25", -0.25),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12:30", "12:30"),
        ("2026-01-02", "2026-01-02"),
        ("1_000", "1_000"),
        ("'1e-6'", "1e-6"),
        ('"true"', "true"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("=", "="),
        ("1e", "1e"),
    ],
)
def test_a_plain_value_has_the_type_of_yaml_1_2(text: str, value: object) -> None:
    got = read(f"key: {text}")["key"]
    assert got == value
    assert type(got) is type(value)


def test_infinities_are_floats_so_that_the_schema_can_refuse_them() -> None:
    assert read("[.inf, -.Inf, +.INF]") == [float("inf"), float("-inf"), float("inf")]
    assert read("key: .nan")["key"] != read("key: .NaN")["key"]


def test_a_key_written_twice_names_both_lines() -> None:
    assert refused("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\n") == [
        "r.yaml:5: b.c: written twice, first at r.yaml:3; keep one",
        "r.yaml:6: a: written twice, first at r.yaml:1; keep one",
    ]


def test_values_know_their_line() -> None:
    node, _ = parse_yaml("a:\n  - 1\n  - b: 2\n", "r.yaml", HERE)
    assert node is not None
    assert isinstance(node.value, dict)
    items = node.value["a"].value
    assert node.value["a"].where.label == "r.yaml:1"
    assert isinstance(items, list)
    assert items[0].where.label == "r.yaml:2"
    assert isinstance(items[1].value, dict)
    assert items[1].value["b"].where.label == "r.yaml:3"
    assert items[1].where.base_dir == HERE


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: &x 1\nb: *x\n", 1, "anchors and aliases are not supported"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases are not supported"),
        ("a:\n  <<: {b: 1}\n", 2, "merge keys are not supported"),
        ("a: !!python/object:os.system 1\n", 1, "tag"),
        ("a: !!str 1\n", 1, "tag"),
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
        ("a: [1, 2\nb: 3\n", 2, "not YAML"),
        ("a: b: c\n", 1, "put text with a colon in quotes"),
        ("a:\n  b: 1\n c: 2\n", 3, "mend the indentation"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("'a\n", 2, "not YAML"),
        ("1: x\n", 1, "a key is text"),
        ("true: x\n", 1, "a key is text"),
        ("? [a, b]\n: x\n", 1, "a list or mapping cannot be a key"),
        ('a: "\\0"\n', 1, "NUL"),
        ('a: "\\ud800"\n', 1, "surrogate"),
        ("a: " + "9" * 5000 + "\n", 1, "digits"),
        ("a: 1\x07\n", 1, "U+0007"),
        ("a: \ufffe\n", 1, "not allowed"),
    ],
)
def test_what_a_recipe_may_not_use_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    (message,) = refused(text)
    assert message.startswith(f"r.yaml:{line}: ")
    assert words in message


@pytest.mark.parametrize("opening", ["[", "{a: "])
def test_deep_nesting_is_refused_before_it_can_exhaust_the_stack(opening: str) -> None:
    (message,) = refused(opening * 50_000)
    assert f"nested deeper than {MAX_DEPTH} levels" in message


def test_an_empty_text_is_null() -> None:
    assert read("# nothing here\n") is None
