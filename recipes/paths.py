"""Relative paths in a recipe start at the folder of the file they are written in."""

from __future__ import annotations

import os
from dataclasses import replace

from recipes.nodes import KeyPath, Node, child

EACH = "*"
"""Stands for every item of a list."""

_JUDGES: tuple[KeyPath, ...] = tuple(
    (*judge, *member)
    for judge in (("rewards", "judge"), ("evaluation", "audit_judge"))
    for member in ((), ("members", EACH, "judge"))
)

FILES: tuple[KeyPath, ...] = (
    ("task", "source", "path"),
    ("rewards", "cache"),
    ("rewards", "calibration", "file"),
    ("sft", "data"),
    ("sft", "heldout_data"),
    ("rl", "learner", "offload", "nvme_path"),
    ("sft", "learner", "offload", "nvme_path"),
)
"""Keys that are always paths."""

NAMES_OR_FILES: tuple[KeyPath, ...] = (
    ("model", "path"),
    ("task", "source", "name"),
    *((*judge, key) for judge in _JUDGES for key in ("model", "template", "list_template", "write_template")),
)
"""Keys that hold a path or a name: one that starts with `.`, `~` or `/`, or that exists beside the file, is a path."""

RUNS: tuple[KeyPath, ...] = (("rl", "init_from"),)
"""Paths beside the file, or else from the working directory, where runs are written."""


def anchor_paths(tree: Node) -> Node:
    """The tree with absolute paths in it."""
    for path in FILES:
        tree = _rewritten(tree, path, always=True)
    for path in NAMES_OR_FILES:
        tree = _rewritten(tree, path, always=False)
    for path in RUNS:
        tree = _rewritten(tree, path, always=False, from_here=True)
    return tree


def _rewritten(node: Node, path: KeyPath, *, always: bool, from_here: bool = False) -> Node:
    if not path:
        if not isinstance(node.value, str):
            return node
        text = _anchored(node, always=always)
        return replace(node, value=os.path.abspath(text) if text and from_here else text)
    if path[0] == EACH and isinstance(node.value, list):
        items = [_rewritten(item, path[1:], always=always, from_here=from_here) for item in node.value]
        return replace(node, value=items)
    below = child(node, path[0])
    if below is None or not isinstance(node.value, dict):
        return node
    return replace(
        node, value={**node.value, str(path[0]): _rewritten(below, path[1:], always=always, from_here=from_here)}
    )


def _anchored(node: Node, *, always: bool) -> str:
    text = str(node.value)
    absolute = os.path.normpath(os.path.join(node.where.base_dir, os.path.expanduser(text)))
    looks_like_path = text.startswith((".", "~", os.sep))
    return absolute if text and (always or looks_like_path or os.path.exists(absolute)) else text
