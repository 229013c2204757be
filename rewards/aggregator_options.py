"""An aggregator's config from its kind's name and plain options, for callers without a recipe."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from rewards.aggregator_config import AggregatorConfig
from rewards.errors import UserError
from rewards.strict import config_kinds


def aggregator_config(kind: str, options: Mapping[str, Any]) -> Any:
    """The config of one kind.

    Args:
        options: its recipe keys (without `kind`); lists stand for tuples.

    Raises:
        UserError: an unknown kind (the nearest name is told), an unknown option, or a value that its rule refuses.
    """
    kinds = config_kinds(AggregatorConfig)
    check_name("aggregator", kind, kinds)
    for name in options:
        check_name(f"option of aggregator {kind}", name, kinds[kind].model_fields.keys() - {"kind"})
    try:
        return kinds[kind].model_validate({"kind": kind, **{key: _tuples(value) for key, value in options.items()}})
    except ValidationError as error:
        fault = error.errors()[0]
        path = ".".join(map(str, fault["loc"])) or "options"
        raise UserError(f"aggregator {kind}: {path}: {fault['msg']}, got {fault['input']!r}") from None


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raises UserError where `name` is not known, with the nearest known name or all of them."""
    names = sorted(known)
    if name not in names:
        nearest = difflib.get_close_matches(str(name), names, n=1)
        choices = f"choose from {', '.join(names)}" if names else "there is none"
        raise UserError(f"unknown {what}: {name!r}; " + (f"did you mean {nearest[0]!r}?" if nearest else choices))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
