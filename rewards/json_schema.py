"""JSON Schema as gates and program judges use it: looked at whole when a recipe is read, safe to hold answers against.

    rules --Schema(rules)--> every subschema, pattern and `$ref` in it --> ValueError: no schema, and why
    answer --errors--------> what does not fit                         --> ValueError: it cannot be held against it

Nothing is ever fetched. Patterns are searched by the `regex` package, which gives up in time and lets other threads
run; jsonschema's own search does neither.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn

import regex

PATTERN_TIMEOUT_S = 0.5
"""Of one search for a pattern of the schema."""

DRAFT = "https://json-schema.org/draft/2020-12/schema"
"""Where `$schema` names no other."""


class Schema:
    """Raises ValueError: it is none, a `$ref` leads out of it or to nothing, or a search in it could not be timed."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        from jsonschema.validators import extend, validator_for
        from jsonschema_specifications import REGISTRY
        from referencing.jsonschema import UnknownDialect, specification_with

        draft = rules.get("$schema", DRAFT)
        try:
            spec = specification_with(str(draft))
        except UnknownDialect:
            raise ValueError(f"$schema: {draft!r} is no draft of JSON Schema known here; leave it out") from None
        base: Any = validator_for({"$schema": draft})
        # Whenever a `$ref` came to it, jsonschema would go on with the draft's own class, and so with its own search.
        rules = {key: rule for key, rule in rules.items() if key != "$schema"}
        parts = list(_parts(base, spec, rules))
        _check_searches(parts)
        timed = {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties(base.VALIDATORS["additionalProperties"]),
        }
        self._validator: Any = extend(base, timed)(rules, registry=REGISTRY)

    def errors(self, text: str, at_most: int) -> list[Any]:
        """What does not fit, as jsonschema's errors. Numbers must be JSON's own, and no key may stand twice.

        Raises:
            ValueError: it is no JSON, or cannot be held against the schema: numbers beyond a float's, nesting that
                Python cannot follow, a pattern that takes too long.
        """
        try:
            value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"not JSON: {problem}") from problem
        try:
            return list(islice(self._validator.iter_errors(value), at_most))
        except (ValueError, ArithmeticError, RecursionError, TimeoutError) as problem:
            raise ValueError(f"cannot be checked: {problem}") from problem


def checked(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules of a config. Raises ValueError as `Schema` does."""
    Schema(rules)
    return rules


def _parts(base: Any, spec: Any, rules: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schema and all in it, also what only a `$ref` makes a schema; each is one by the draft's own rules."""
    from jsonschema_specifications import REGISTRY

    seen: set[int] = set()
    waiting: list[tuple[Any, Any]] = [(rules, REGISTRY.resolver_with_root(spec.create_resource(rules)))]
    while waiting:
        found, resolver = waiting.pop()
        _check(base, found)
        for part, inside in list(_inner(spec, found, resolver)):
            if id(part) in seen:
                continue
            seen.add(id(part))
            yield part
            refs = [part[keyword] for keyword in ("$ref", "$dynamicRef") if keyword in part]
            waiting += [_target(inside, ref) for ref in refs if ref.rstrip("#") not in REGISTRY]


def _inner(spec: Any, schema: Any, resolver: Any) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """A schema and those that stand inside it, each with what resolves its references."""
    if isinstance(schema, bool):
        return
    if "$schema" in schema:
        raise ValueError("$schema: may stand at the top only")
    yield schema, resolver
    for inner in spec.subresources_of(schema):
        yield from _inner(spec, inner, resolver.in_subresource(spec.create_resource(inner)))


def _target(resolver: Any, ref: str) -> tuple[Any, Any]:
    from referencing.exceptions import Unresolvable

    try:
        found = resolver.lookup(ref)
    except (Unresolvable, ValueError, TypeError):
        raise ValueError(f"$ref: {ref!r} leads to nothing inside the schema") from None
    return found.contents, found.resolver


def _check(base: Any, rules: Any) -> None:
    from jsonschema.exceptions import SchemaError

    try:
        base.check_schema(rules)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path)) or "the schema"
        raise ValueError(f"no JSON Schema: {where}: {error.message[:200]}") from None


def _check_searches(parts: Iterable[Mapping[str, Any]]) -> None:
    keys = {key for part in parts for key in part}
    if {"unevaluatedProperties", "patternProperties"} <= keys:
        raise ValueError("unevaluatedProperties: cannot be timed where patternProperties are; use additionalProperties")
    for part in parts:
        for pattern in (*part.get("patternProperties", ()), *([part["pattern"]] if "pattern" in part else ())):
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"pattern: {pattern!r} is no regular expression: {error}") from None


def _found(pattern: str, text: str) -> bool:
    """Raises TimeoutError."""
    try:
        return regex.search(pattern, text, timeout=PATTERN_TIMEOUT_S, concurrent=True) is not None
    except TimeoutError:
        raise TimeoutError(f"took longer than {PATTERN_TIMEOUT_S:g} s to search for {pattern!r}") from None


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not _found(pattern, instance):
        yield ValidationError(f"{instance[:60]!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, rules: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, dict):
        for pattern, rule in rules.items():
            for key, value in instance.items():
                if _found(pattern, key):
                    yield from validator.descend(value, rule, path=key, schema_path=pattern)


def _additional_properties(untimed: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def keyword(validator: Any, rule: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        """The draft's own, shown neither the patterns nor the properties that they account for."""
        patterns = schema.get("patternProperties", {})
        if patterns and isinstance(instance, dict):
            instance = {
                key: value for key, value in instance.items() if not any(_found(pattern, key) for pattern in patterns)
            }
            schema = {key: other for key, other in schema.items() if key != "patternProperties"}
        yield from untimed(validator, rule, instance, schema)

    return keyword


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
