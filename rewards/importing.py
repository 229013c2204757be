"""Plug-ins named by import path `package.module:name`: imported by a run, only looked up by `podium check`."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from rewards.errors import UserError


def import_target(target: str) -> Any:
    """The object that `package.module:name` names. What the module itself raises on import passes through.

    Raises:
        UserError: there is no such module, or no such name in it.
    """
    module_name, name = _split(target)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists and itself imports something that is missing
        raise _no_module(target, error.name) from error
    if not hasattr(module, name):
        raise _no_name(target, name, module_name, vars(module))
    return getattr(module, name)


def check_takes(what: str, function: Callable[..., Any], /, *arguments: str, **options: Any) -> None:
    """Raises UserError for a function that cannot be called with such arguments; `what` names it to the user."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        call = ", ".join([*arguments, *(f"{name}={value!r}" for name, value in options.items())])
        raise UserError(f"{what} cannot be called with ({call}): {error}; give it these") from None
    except ValueError:  # a builtin that does not tell
        return


def locate(target: str) -> Path | None:
    """The file of the module that `package.module:name` names, found without importing any of it.

    None for a module that has no source file. A name that the source cannot bind is an error too.

    Raises:
        UserError: there is no such module, or no such name in it.
    """
    module_name, name = _split(target)
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    parts = module_name.split(".")
    for depth in range(1, len(parts) + 1):
        parent = ".".join(parts[:depth])
        spec = _find_spec(parent, path)
        if spec is None or (depth < len(parts) and spec.submodule_search_locations is None):
            raise _no_module(target, parent)
        path = list(spec.submodule_search_locations or ())
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file = Path(spec.origin)
    bound = _bound_names(file, target)
    if name not in bound and not bound & {"*", "__getattr__"}:
        raise _no_name(target, name, module_name, bound)
    return file


def _split(target: str) -> tuple[str, str]:
    module_name, colon, name = target.partition(":")
    if not colon or not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise UserError(f"target {target!r}: give package.module:name")
    return module_name, name


def _find_spec(module_name: str, path: list[str] | None) -> ModuleSpec | None:
    """As the import system finds it, editable installs included; `importlib.util.find_spec` would import parents."""
    found = (finder.find_spec(module_name, path) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def _bound_names(file: Path, target: str) -> set[str]:
    """Every name that the source binds anywhere; "*" stands for a star import."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise UserError(f"target {target!r}: {file}:{error.lineno} is not valid Python ({error.msg})") from error
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
    return names


def _no_module(target: str, missing: str) -> UserError:
    return UserError(f"target {target!r}: no module named {missing!r}; install it, or put its folder on PYTHONPATH")


def _no_name(target: str, name: str, module_name: str, known: Any) -> UserError:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "check the spelling"
    return UserError(f"target {target!r}: module {module_name} has no {name!r}; {hint}")
