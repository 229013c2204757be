"""Ranking rows of verdicts that somebody else collected: the doorway for leaderboards and for `podium rank`.

board = rank_rows(["x", "x", "y"], ["y", "z", "z"], [1.0, 0.5, 1.0])     # x beat y, x and z tied, y beat z
board["ungrouped"].items[0]                                              # the best item
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rewards.aggregator_options import aggregator_config, check_name
from rewards.aggregators import build_aggregator
from rewards.aggregators.base import TableAggregator
from rewards.errors import UserError
from rewards.types import Strengths
from rewards.verdict_rows import MAX_WEIGHT, Coded, VerdictRows, encode, first_fault, group_tables

UNGROUPED = "ungrouped"
"""Name of the group of rows that have none."""

MAX_ITEMS = 5_000
"""Of a group: aggregators keep tables of item against item, the default one 1.7 GiB of them for 2,000 items."""

_SAME = 1e-9
"""Scores closer than this, relative to 1 + |score|, are one score: sums in another order differ by less."""


@dataclass(frozen=True, slots=True)
class RankedItem:
    """An item's place in its group.

    score: the aggregator's strength on its own scale (log-odds, points) where it has one, else its reward.
    stderr: standard error of the score, where the aggregator has one. reward: what a rollout in its place would be
    paid. rank: 1 is best; equal scores share the lowest rank. An unscored item has None throughout.
    """

    item: str
    score: float | None
    stderr: float | None
    reward: float | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class RankedGroup:
    """Items by rank, unscored ones last; `num_matches` counts the rows that weigh something."""

    items: list[RankedItem]
    num_matches: int
    reliability: float | None
    circular_triad_rate: float | None


def rank_rows(
    a: Sequence[str],
    b: Sequence[str],
    score: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    group: Sequence[str | None] | None = None,
    judge: Sequence[str | None] | None = None,
    aggregator: str = "empirical_bayes",
    **options: Any,
) -> dict[str, RankedGroup]:
    """Ranks the items of every group from rows of verdicts, one entry per row in every argument.

    Args:
        a, b: the two items of a row, different.
        score: of `a`, in [0, 1]: 1 won, 0.5 tied, 0 lost, or the probability that it wins. If all rows are 0, 0.5 or 1
            they are read as hard verdicts, else as probabilities.
        weight: what a row counts, in plain verdicts; default 1, and 1e10 at most for all rows of a group.
        group: who is ranked together; rows without one (None) are the group "ungrouped".
        judge: who said it; needed where `judge_weights` names judges.
        aggregator: any kind of `rewards.aggregator` in a recipe.
        options: that kind's keys, such as `scales`, and `judge_weights` (name to weight, 1 where none is given).

    Returns:
        groups by name, in order of the names.

    Raises:
        UserError: no rows, columns of unequal length, a bad row (it is named), a group that is too large or
            weighs too much, an unknown aggregator, option or judge.
    """
    aggregator_config(aggregator, options)  # A misspelt option is told before a million rows are read.
    a_column, b_column = encode(a, b)
    score_R = np.asarray(score, dtype=np.float64)
    lengths = {"b": len(b), "score": len(score_R), "group": group, "judge": judge, "weight": weight}
    for name, column in lengths.items():
        length = column if isinstance(column, int) else len(a) if column is None else np.shape(column)[0]
        if length != len(a):
            raise UserError(f"rank_rows: {name} has {length} rows and a has {len(a)}; give one entry per row")
    rows = VerdictRows(
        a=a_column,
        b=b_column,
        score_R=score_R,
        weight_R=np.ones(len(a)) if weight is None else np.asarray(weight, dtype=np.float64),
        group=encode_groups(group, len(a)),
        judge=None if judge is None else encode(["" if name is None else name for name in judge])[0],
    )
    fault = first_fault(rows)
    if fault is not None:
        raise UserError(f"rank_rows: row {fault.row}: {fault}")
    return rank_verdict_rows(rows, aggregator=aggregator, options=options)


def encode_groups(group: Sequence[str | None] | None, num_rows: int) -> Coded:
    """The column of groups, with a name for rows that have none."""
    if group is None:
        return Coded(np.zeros(num_rows, dtype=np.int64), [UNGROUPED])
    return encode([UNGROUPED if name is None else name for name in group])[0]


def rank_verdict_rows(
    rows: VerdictRows, *, aggregator: str = "empirical_bayes", options: Mapping[str, Any]
) -> dict[str, RankedGroup]:
    """`rank_rows` for columns that are coded and checked (`first_fault`)."""
    config = aggregator_config(aggregator, options)
    fitter = build_aggregator(config)
    if not isinstance(fitter, TableAggregator):
        raise UserError(f"aggregator {aggregator}: cannot rank rows; choose a kind that fits tables of verdicts")
    if not len(rows.a):
        raise UserError("no rows to rank; give at least one match")
    judges = [name for name in rows.judge.names if name] if rows.judge is not None else []
    weights = dict(options.get("judge_weights", {}))
    for name in weights:
        check_name("judge in judge_weights", name, judges)
    groups = group_tables(rows, weights)
    for group in groups:
        if len(group.items) > MAX_ITEMS:
            raise UserError(
                f"group {group.name}: has {len(group.items)} items; {MAX_ITEMS} at most are ranked together, split it"
            )
        if (total := float(group.table.weight_V.sum())) > MAX_WEIGHT:
            raise UserError(f"group {group.name}: its rows weigh {total:g} in all; {MAX_WEIGHT:g} at most, divide them")
    fitted, _ = fitter.fit_tables([group.table for group in groups])
    return {
        group.name: RankedGroup(
            items=_ranked(group.items, strengths),
            num_matches=len(group.table.value_V),
            reliability=strengths.reliability,
            circular_triad_rate=strengths.circular_triad_rate,
        )
        for group, strengths in zip(groups, fitted, strict=True)
    }


def _ranked(items: list[str], strengths: Strengths) -> list[RankedItem]:
    nothing: list[float | None] = [None] * len(items)
    scores = strengths.rewards if strengths.strengths is None else strengths.strengths
    stderrs = strengths.stderrs or nothing
    ranked: list[RankedItem] = []
    scored = sorted((-score, slot) for slot, score in enumerate(scores) if score is not None)
    rank, above = 0, math.inf
    for place, (minus, slot) in enumerate(scored, start=1):
        score = -minus
        if above - score > _SAME * (1.0 + abs(score)):
            rank = place
        above = score
        ranked.append(RankedItem(items[slot], score, stderrs[slot], strengths.rewards[slot], rank))
    unscored = [slot for slot, score in enumerate(scores) if score is None]
    return ranked + [RankedItem(items[slot], None, None, strengths.rewards[slot], None) for slot in unscored]
