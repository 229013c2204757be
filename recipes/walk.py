"""Finding one's way in the schema: from pydantic's error locations to key paths, and from key names to their places."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

Section = type[BaseModel]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an error is: its key path (union tags left out) and what the schema has around it.

    section: the model whose key comes last in the path. siblings: all kinds that could stand in its place.
    below: the models that could stand at the path itself.
    """

    path: tuple[str | int, ...]
    section: Section
    siblings: tuple[Section, ...]
    below: tuple[Section, ...]


def sections_of(annotation: Any) -> tuple[Section, ...]:
    """The models an annotation allows: one for a section, several for a union on `kind`, none for a value."""
    if get_origin(annotation) is Annotated:
        return sections_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(section for member in get_args(annotation) for section in sections_of(member))
    return (annotation,) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else ()


def kind_of(section: Section) -> str | None:
    """The value of `kind` that selects this section, or None if it is not selected by one."""
    field = section.model_fields.get("kind")
    values = get_args(field.annotation) if field else ()
    return values[0] if len(values) == 1 else None


def place_of(root: Section, loc: Sequence[str | int]) -> Place:
    """Pydantic's error location as a place; the last key may be one that the schema does not know."""
    path: list[str | int] = []
    annotation: Any = root
    section, siblings = root, (root,)
    for part in loc:
        here = sections_of(annotation)
        if len(here) > 1:  # a union on kind: pydantic writes the chosen tag into the location
            annotation = next(member for member in here if kind_of(member) == part)
            section, siblings = annotation, here
            continue
        if here:
            if here[0] is not section:
                section, siblings = here[0], here
            field = section.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:
            item = _item(annotation, part)
            if item is None:  # the name of a tried member of a union of plain types
                break
            annotation = item
        path.append(part)
    return Place(tuple(path), section, siblings, sections_of(annotation))


def _item(annotation: Any, part: str | int) -> Any:
    if get_origin(annotation) is Annotated:
        return _item(get_args(annotation)[0], part)
    if get_origin(annotation) in (Union, types.UnionType):
        return next((item for member in get_args(annotation) if (item := _item(member, part)) is not None), None)
    if get_origin(annotation) is tuple and isinstance(part, int):
        items = get_args(annotation)
        return items[0] if items[-1] is Ellipsis else items[part] if part < len(items) else None
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    return None


@cache
def key_places(root: Section) -> dict[str, tuple[str, ...]]:
    """Every key name of the schema with the key paths it has; items of lists are written `*`."""
    places: dict[str, dict[str, None]] = {}
    for name, path in _walk(root, ""):
        places.setdefault(name, {})[path] = None
    return {name: tuple(paths) for name, paths in places.items()}


def _walk(section: Section, prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        yield name, prefix + name
        item = _item(field.annotation, 0)
        for below in sections_of(field.annotation):
            yield from _walk(below, f"{prefix}{name}.")
        for below in sections_of(item):
            yield from _walk(below, f"{prefix}{name}.*.")
