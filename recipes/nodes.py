"""A recipe as a tree that remembers where each value was written, so that every error can name its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

Scalar = str | int | float | bool | None
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Where:
    """Where a value was written: `file:line` or `--set a.b=c`; relative paths in it start at `base_dir`."""

    label: str
    base_dir: Path


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value and its place."""

    value: dict[str, Node] | list[Node] | Scalar
    where: Where


def plain(node: Node) -> Any:
    """The value without its places: dicts, lists and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def child(node: Node, key: str | int) -> Node | None:
    """One step down, or None."""
    if isinstance(node.value, dict) and isinstance(key, str):
        return node.value.get(key)
    if isinstance(node.value, list) and isinstance(key, int) and 0 <= key < len(node.value):
        return node.value[key]
    return None


def deepest(node: Node, path: Sequence[str | int]) -> tuple[Node, int]:
    """The last node that exists on the way down `path`, and how many steps lead to it."""
    for depth, key in enumerate(path):
        below = child(node, key)
        if below is None:
            return node, depth
        node = below
    return node, len(path)


def merge(parent: Node, over: Node) -> Node:
    """`over` laid on `parent`: mappings merge key by key, everything else is replaced.

    A section that `over` gives another `kind` is replaced whole: the parent's keys belong to another kind.
    """
    if not (isinstance(parent.value, dict) and isinstance(over.value, dict)) or _changes_kind(parent.value, over.value):
        return over
    merged = dict(parent.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, over.where)


def _changes_kind(parent: dict[str, Node], over: dict[str, Node]) -> bool:
    return "kind" in over and "kind" in parent and over["kind"].value != parent["kind"].value


def assign(node: Node | None, path: KeyPath, value: Node) -> Node:
    """`value` put at `path`; missing sections on the way are made, items of lists are named by their index.

    Raises:
        LookupError: the path leads into a scalar, or past the end of a list; the argument says which.
    """
    if not path:
        return value if node is None else merge(node, value)
    key, rest = path[0], path[1:]
    if node is None or node.value is None:
        return Node({str(key): assign(None, rest, value)}, value.where)
    if isinstance(node.value, list):
        if not (isinstance(key, int) and 0 <= key < len(node.value)):
            raise LookupError(f"'{key}' is not an index of a list of {len(node.value)}")
        items = list(node.value)
        items[key] = assign(items[key], rest, value)
        return replace(node, value=items)
    if isinstance(node.value, dict):
        return merge(node, Node({str(key): assign(node.value.get(str(key)), rest, value)}, node.where))
    raise LookupError(f"'{key}' leads into a single value")
