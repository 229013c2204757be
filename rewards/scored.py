"""What a score function gives: read, checked, and put into the columns of a GroupScore. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rewards.errors import UserError
from rewards.gate_rewards import apply_factors
from rewards.types import Candidate, Scored

Score = float | Mapping[str, float | None] | Scored | None
"""A metric's own value, higher is better; or one per segment by name, which then add up to the rollout's reward; or
both in full; None = unscored."""

Column = list[float | None]
"""One entry per slot of a group."""


def read_score(value: Score, name: str) -> Scored | None:
    """What the function called `name` gave for one rollout.

    Raises:
        UserError: no number, a number that is not finite, or a mapping without any number.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        segments = _numbers(value, name)
        present = [reward for reward in segments.values() if reward is not None]
        if not present:
            raise UserError(f"rewards.target {name}: scored none of the segments in {value!r:.80}; give None instead")
        return Scored(reward=sum(present), segments=segments)
    if not isinstance(value, Scored):
        return Scored(reward=_number(value, name))
    return Scored(
        _number(value.reward, name),
        _numbers(value.segments, name),
        _numbers(value.figures, name),
        _numbers(value.criteria, name),
    )


def _numbers(values: Mapping[str, object], name: str) -> dict[str, float | None]:
    return {key: None if value is None else _number(value, name) for key, value in values.items()}


def _number(value: object, name: str) -> float:
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"rewards.target {name}: a score is a finite number or None, got {value!r}")
    return number


@dataclass(frozen=True, slots=True)
class Columns:
    """The part of a GroupScore that scores fill."""

    rewards: Column
    segment_rewards: dict[str, Column]
    figures: dict[str, Column]
    per_criterion: dict[str, Column]


def collect(
    scores: Mapping[int, Scored | None],
    vetoed: Mapping[int, Candidate],
    factors: Mapping[int, float],
    num_candidates: int,
) -> Columns:
    """Scores by slot as columns; figures are as they were said.

    Args:
        vetoed: those that failed a hard gate stand at min(0, lowest), in every segment they have and every criterion.
        factors: of soft gates, by slot; they take from the reward, every segment's and every criterion's
            (`apply_factors`).
    """
    present = {slot: score for slot, score in scores.items() if score is not None}
    spans_of = {slot: dict.fromkeys(span.name for span in one.parsed.spans) for slot, one in vetoed.items()}
    return Columns(
        rewards=_column({slot: score.reward for slot, score in present.items()}, set(vetoed), factors, num_candidates),
        segment_rewards={
            name: _column(
                {slot: score.segments.get(name) for slot, score in present.items()},
                {slot for slot, spans in spans_of.items() if name in spans},
                factors,
                num_candidates,
            )
            for name in _names([score.segments for score in present.values()] or spans_of.values())
        },
        figures={
            name: [present[slot].figures.get(name) if slot in present else None for slot in range(num_candidates)]
            for name in _names(score.figures for score in present.values())
        },
        per_criterion={
            name: _column(
                {slot: score.criteria.get(name) for slot, score in present.items()},
                set(vetoed),
                factors,
                num_candidates,
            )
            for name in _names(score.criteria for score in present.values())
        },
    )


def _column(
    values: Mapping[int, float | None], at_floor: set[int], factors: Mapping[int, float], num_candidates: int
) -> Column:
    column = apply_factors([values.get(slot) for slot in range(num_candidates)], factors, "metric")
    floor = min([0.0, *(value for value in column if value is not None)])
    return [floor if slot in at_floor else value for slot, value in enumerate(column)]


def _names(columns: Iterable[Mapping[str, object]]) -> list[str]:
    """Every name, in the order first seen, so that equal groups give equal tables."""
    return list(dict.fromkeys(name for column in columns for name in column))
