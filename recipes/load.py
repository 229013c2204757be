"""Reading a recipe: file, `extends`, `--set`, relative paths, validation; every fault at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.include import include_rubrics
from recipes.messages import Fault, RecipeError, one_line, show_value
from recipes.nodes import KeyPath, Node, assign, merge, plain
from recipes.paths import anchor_paths
from recipes.schema import Recipe
from recipes.validate import fault_at, validate
from recipes.yaml_text import parse_yaml

MAX_BYTES = 256 * 1024
"""A larger file is no recipe."""


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe and where it came from.

    path: the file named. base_dir: its folder; the paths inside `recipe` are absolute already. sources: every file
    that was read, the named one first, then what it extends. tree: the same values with the lines they stand on.
    rubrics: the rubric files that are in it.
    """

    recipe: Recipe
    path: Path
    base_dir: Path
    sources: tuple[Path, ...]
    tree: Node = field(repr=False)
    rubrics: tuple[Path, ...] = ()

    def fault(self, path: KeyPath, rule: str, hint: str = "") -> Fault:
        """A fault at a key, for what is found out after loading."""
        return fault_at(self.tree, path, rule, hint, self.recipe)


def load_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, inherit, override and validate.

    Args:
        path: YAML (or JSON) file.
        overrides: `a.b=c` each, as given to `--set`; c is YAML.

    Raises:
        RecipeError: one line per fault, each with file and line.
    """
    read = read_tree(path, overrides)
    recipe, base_dir = validate(read.tree, Recipe), read.file.parent.absolute()
    return LoadedRecipe(recipe, read.file, base_dir, read.sources, read.tree, read.rubrics)


@dataclass(frozen=True, slots=True)
class Read:
    """What stands in recipe files: the values with their lines, the file named, all recipe files and rubric files."""

    tree: Node
    file: Path
    sources: tuple[Path, ...]
    rubrics: tuple[Path, ...]


def read_tree(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Read:
    """What `load_recipe` reads before it validates.

    Raises:
        RecipeError: one line per fault.
    """
    file = Path(path)
    tree, sources = _read(file, ())
    faults: list[Fault] = []
    for keys, value in sorted(_parsed(overrides, tree.where.base_dir, faults), key=lambda item: item[0][-1] != "kind"):
        try:
            tree = assign(tree, keys, value)
        except LookupError as error:
            faults.append(Fault(value.where.label, keys, rule=str(error.args[0])))
    if faults:
        raise RecipeError(faults)
    tree, rubrics = include_rubrics(anchor_paths(tree), lambda path: _mapping(path, "a rubric"))
    return Read(tree, file, sources, rubrics)


def dump_resolved(recipe: Recipe) -> dict[str, Any]:
    """The whole recipe as JSON values, defaults written out; loads back equal."""
    return recipe.model_dump(mode="json")


def _read(file: Path, children: tuple[Path, ...]) -> tuple[Node, tuple[Path, ...]]:
    """The tree of a file laid over what it extends, and the files read."""
    tree = _mapping(file, "a recipe")
    assert isinstance(tree.value, dict)
    own = dict(tree.value)
    extends = own.pop("extends", None)
    tree = Node(own, tree.where)
    if extends is None:
        return tree, (file,)

    def refused(rule: str) -> RecipeError:
        return RecipeError([Fault(extends.where.label, ("extends",), show_value(extends.value), rule)])

    if not isinstance(extends.value, str) or not extends.value:
        raise refused("must be the path of another recipe")
    parent = file.parent / os.path.expanduser(extends.value)
    family = (*children, file)
    if any(os.path.realpath(parent) == os.path.realpath(member) for member in family):
        raise refused(f"extends itself: {' -> '.join(member.name for member in (*family, parent))}")
    if not os.path.isfile(parent):
        raise refused(f"no such file: {one_line(str(parent))}")
    base, sources = _read(parent, family)
    return merge(base, tree), (file, *sources)


def _mapping(file: Path, what: str) -> Node:
    """What stands in a file, a mapping of keys. Raises RecipeError."""
    label = one_line(str(file))
    tree, faults = parse_yaml(_text(file, label, what), label, file.parent.absolute())
    if faults or tree is None:
        raise RecipeError(faults)
    if tree.value is None:
        raise RecipeError([Fault(label, (), rule=f"empty; {what} is a mapping of keys")])
    if not isinstance(tree.value, dict):
        raise RecipeError([Fault(tree.where.label, (), show_value(plain(tree)), f"{what} is a mapping of keys")])
    return tree


def _text(file: Path, label: str, what: str) -> str:
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise RecipeError([Fault(label, (), rule=f"more than {MAX_BYTES // 1024} KiB; not {what}")])
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError([Fault(f"{label}:{line}", (), rule="not UTF-8 text")]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecipeError([Fault(label, (), rule=f"cannot be read: {reason.lower()}")]) from None


def _parsed(overrides: Sequence[str], base_dir: Path, faults: list[Fault]) -> list[tuple[KeyPath, Node]]:
    parsed: list[tuple[KeyPath, Node]] = []
    for override in overrides:
        label = f"--set {one_line(override, 100)}"
        key, equals, text = override.partition("=")
        keys = key.strip().split(".")
        if not equals or not all(keys):
            faults.append(Fault(label, (), rule="must look like `key.path=value`"))
            continue
        value, problems = parse_yaml(text, label, base_dir, numbered=False)
        faults.extend(problems)
        if value is not None and not problems:
            path = tuple(int(part) if part.isdecimal() and part.isascii() else part for part in keys)
            parsed.append((path, value))
    return parsed
