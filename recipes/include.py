"""Rubric files: a judge's `rubric: file.yaml` becomes what stands in that file, each value with its own line.

So the file is checked like the recipe, by the same schema and with the same messages; and the resolved recipe that a
run stores holds the whole rubric, so that it resumes with the one that it began with.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from recipes.messages import RecipeError
from recipes.nodes import Node

JUDGES = ("judge", "audit_judge")
"""Keys under which a judge stands, wherever they are; a panel's members have one each."""

KEY, KIND = "rubric", "rubric"

Read = Callable[[Path], Node]


def include_rubrics(tree: Node, read: Read) -> tuple[Node, tuple[Path, ...]]:
    """The tree with rubric files in it, and the files.

    Args:
        read: a file's mapping; raises RecipeError where it is none.

    Raises:
        RecipeError: the faults of all rubric files together.
    """
    files: list[Path] = []
    errors: list[RecipeError] = []
    included = _included(tree, read, files, errors)
    if errors:
        raise RecipeError([fault for error in errors for fault in error.faults])
    return included, tuple(files)


def _included(node: Node, read: Read, files: list[Path], errors: list[RecipeError]) -> Node:
    if isinstance(node.value, list):
        return replace(node, value=[_included(item, read, files, errors) for item in node.value])
    if not isinstance(node.value, dict):
        return node
    inside = {key: _included(below, read, files, errors) for key, below in node.value.items()}
    for key in JUDGES:
        if key in inside:
            inside[key] = _judge(inside[key], read, files, errors)
    return replace(node, value=inside)


def _judge(judge: Node, read: Read, files: list[Path], errors: list[RecipeError]) -> Node:
    if not isinstance(judge.value, dict):
        return judge
    kind, rubric = judge.value.get("kind"), judge.value.get(KEY)
    if kind is None or kind.value != KIND or rubric is None or not isinstance(rubric.value, str):
        return judge
    file = rubric.where.base_dir / os.path.expanduser(rubric.value)
    try:
        content = read(file)
    except RecipeError as error:
        errors.append(error)
        return judge
    files.append(file)
    return replace(judge, value={**judge.value, KEY: content})
