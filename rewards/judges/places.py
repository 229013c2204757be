"""From a number per candidate to places."""

from __future__ import annotations

from collections.abc import Sequence


def places_of(values: Sequence[float]) -> tuple[int, ...]:
    """Place of each, higher is better: how many are better, so that level ones share the lowest place."""
    return tuple(sum(other > value for other in values) for value in values)
