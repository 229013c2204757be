"""A tree of nodes to a typed recipe; every fault with its line, rule and nearest key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recipes.messages import (
    MEANT_KEYS,
    MEANT_VALUES,
    REFUSED_KEYS,
    Fault,
    RecipeError,
    did_you_mean,
    listing,
    nearest,
    one_line,
    rule_of,
    show_value,
)
from recipes.nodes import Node, deepest, plain
from recipes.walk import Place, key_places, kind_of, place_of

Schema = TypeVar("Schema", bound=BaseModel)

UNKNOWN_KEY = "unknown key"


def validate(tree: Node, schema: type[Schema]) -> Schema:
    """The recipe in `tree`, of the kind that `schema` describes.

    Read in JSON mode, because only there strict pydantic takes a list for a tuple.

    Raises:
        RecipeError: with every fault that pydantic and the cross-field checks found.
    """
    try:
        return schema.model_validate_json(json.dumps(plain(tree)))
    except ValidationError as error:
        raise RecipeError(
            _joined(fault for item in error.errors() for fault in _faults_of(item, tree, schema))
        ) from None


def _faults_of(error: Mapping[str, Any], tree: Node, schema: type[BaseModel]) -> Iterator[Fault]:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "cross_field":
        for path, rule in context["faults"]:
            yield fault_at(tree, path, rule, recipe=context["recipe"])
        return
    place = place_of(schema, error["loc"])
    if kind == "extra_forbidden" and place.path[0] == "rollouts" and place.path[-1] in REFUSED_KEYS:
        yield fault_at(tree, place.path, *REFUSED_KEYS[str(place.path[-1])])
    elif kind == "extra_forbidden":
        yield fault_at(tree, place.path, UNKNOWN_KEY, _hint_for_key(place, schema))
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        kinds = [str(kind_of(section)) for section in place.below]
        given = context.get("tag")
        rule = f"kinds are {listing(kinds)}" if given else f"needs a `kind`: {listing(kinds)}"
        path = (*place.path, "kind") if given else place.path
        yield fault_at(tree, path, rule, did_you_mean(given, kinds) if given else "")
    elif kind == "value_error":
        yield fault_at(tree, *_key_named(place, str(context["error"])))
    else:
        yield fault_at(tree, place.path, rule_of(kind, context, error["msg"]), _hint_for_value(kind, context, error))


def _key_named(place: Place, message: str) -> tuple[tuple[str | int, ...], str]:
    """A section's own complaint: the key that it opens with, `router.gate: no soft gate ...`, and the rule."""
    named, colon, rule = message.partition(": ")
    keys = named.split(".")
    if colon and any(keys[0] in section.model_fields for section in place.below):
        return (*place.path, *keys), rule
    return place.path, one_line(message)


def fault_at(
    tree: Node, path: tuple[str | int, ...], rule: str, hint: str = "", recipe: BaseModel | None = None
) -> Fault:
    """A fault at the value that stands at `path`, or at the section where it should stand.

    recipe: what the tree became; a value that was not given is shown as it is there.
    """
    node, depth = deepest(tree, path)
    is_there = depth == len(path)
    value = show_value(plain(node)) if is_there and path else _default(recipe, path)
    return Fault(node.where.label, path, value, rule, hint)


def _default(recipe: BaseModel | None, path: tuple[str | int, ...]) -> str:
    """The single value that stands at `path` by default; empty for anything else."""
    value: Any = recipe
    for key in path:
        value = value[key] if isinstance(value, tuple) and isinstance(key, int) else getattr(value, str(key), None)
    return f"{show_value(value)} by default" if isinstance(value, str | int | float) else ""


def _hint_for_key(place: Place, schema: type[BaseModel]) -> str:
    key = str(place.path[-1])
    for other in place.siblings:
        if other is not place.section and key in other.model_fields:
            return f"`{key}` belongs to kind '{kind_of(other)}'"
    if meant := MEANT_KEYS.get(".".join(map(str, place.path))):
        return f"did you mean '{meant}'?"
    known = list(place.section.model_fields)
    if match := nearest(key, known):
        return f"did you mean '{match}'?"
    if places := key_places(schema).get(key):
        return f"did you mean '{places[0]}'?"
    return f"known here: {', '.join(known)}"


def _hint_for_value(kind: str, context: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    given = error["input"]
    if kind == "literal_error":
        known = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        meant = MEANT_VALUES.get(given) if isinstance(given, str) else None
        return did_you_mean(meant if meant in known else given, known)
    if kind == "bool_type" and isinstance(given, str) and given.lower() in ("yes", "no", "on", "off"):
        return f"write {'true' if given.lower() in ('yes', 'on') else 'false'}"
    if kind == "string_type" and isinstance(given, (bool, int, float)):
        return "put it in quotes"
    return ""


def _joined(faults: Iterator[Fault]) -> list[Fault]:
    """Faults at the same place become one line: a union of plain types reports every member it tried."""
    by_place: dict[tuple[object, ...], Fault] = {}
    for fault in faults:
        first = by_place.setdefault((fault.where, fault.path), fault)
        if fault.rule not in first.rule:
            rule = f"{first.rule} or {fault.rule.removeprefix('must be ')}"
            by_place[(fault.where, fault.path)] = Fault(first.where, first.path, first.value, rule)
    return list(by_place.values())
