"""Merging and assigning on trees that remember their places."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.nodes import KeyPath, Node, Where, assign, deepest, merge, plain
from recipes.yaml_text import parse_yaml


def tree(text: str, source: str = "a.yaml") -> Node:
    node, faults = parse_yaml(text, source, Path("/x"))
    assert node is not None
    assert faults == []
    return node


def test_mappings_merge_and_everything_else_is_replaced() -> None:
    merged = merge(tree("a: {b: 1, c: [1, 2]}\nd: 5"), tree("a: {c: [3]}\ne: 6"))
    assert plain(merged) == {"a": {"b": 1, "c": [3]}, "d": 5, "e": 6}


def test_a_section_of_another_kind_drops_its_parents_keys() -> None:
    parent = tree("judge: {kind: embedding, model: m, batch_size: 4}")
    assert plain(merge(parent, tree("judge: {kind: python, target: 'a:b'}"))) == {
        "judge": {"kind": "python", "target": "a:b"}
    }
    assert plain(merge(parent, tree("judge: {kind: embedding, model: n}"))) == {
        "judge": {"kind": "embedding", "model": "n", "batch_size": 4}
    }
    assert plain(merge(parent, tree("judge: {model: n}")))["judge"]["kind"] == "embedding"


def test_merged_values_keep_the_places_they_came_from() -> None:
    merged = merge(tree("a:\n  b: 1\n  c: 2"), tree("a:\n  c: 3", "b.yaml"))
    assert deepest(merged, ("a", "b"))[0].where.label == "a.yaml:2"
    assert deepest(merged, ("a", "c"))[0].where.label == "b.yaml:2"


def test_deepest_stops_where_the_path_ends() -> None:
    node, depth = deepest(tree("a:\n  - b: 1"), ("a", 0, "zzz", "y"))
    assert (plain(node), depth) == ({"b": 1}, 2)
    assert deepest(tree("a: [1]"), ("a", 3))[1] == 1


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("a", "b"), "2", {"a": {"b": 2, "l": [1, {"m": 0}]}}),
        (("a", "l", 1, "m"), "7", {"a": {"b": 1, "l": [1, {"m": 7}]}}),
        (("a", "l", 0), "9", {"a": {"b": 1, "l": [9, {"m": 0}]}}),
        (("a", "l"), "[]", {"a": {"b": 1, "l": []}}),
        (("n", "e", "w"), "x", {"a": {"b": 1, "l": [1, {"m": 0}]}, "n": {"e": {"w": "x"}}}),
        (("a",), "{b: 3}", {"a": {"b": 3, "l": [1, {"m": 0}]}}),
    ],
)
def test_assign_puts_a_value_at_a_path(path: KeyPath, value: str, expected: object) -> None:
    start = tree("a: {b: 1, l: [1, {m: 0}]}")
    assert plain(assign(start, path, tree(value))) == expected
    assert plain(start) == {"a": {"b": 1, "l": [1, {"m": 0}]}}


@pytest.mark.parametrize("path", [("a", "b", "c"), ("a", "l", 5), ("a", "l", "x")])
def test_assign_refuses_a_path_into_nothing(path: KeyPath) -> None:
    with pytest.raises(LookupError):
        assign(tree("a: {b: 1, l: [1]}"), path, Node(1, Where("--set", Path())))
