"""Rows of verdicts as columns, and the tables of verdicts that aggregators fit; no object per row.

Shapes: R rows, U distinct (group, item) pairs, V rows of one group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.votes import FloatArray, IntArray, VerdictTable
from rewards.types import VerdictKind

MAX_WEIGHT = 1e10
"""Of all rows of a group together, in plain verdicts: beyond it sums round away what a wide prior says."""


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A column of names: row r holds `names[codes_R[r]]`."""

    codes_R: IntArray
    names: list[str]

    def __len__(self) -> int:
        return len(self.codes_R)


@dataclass(frozen=True, slots=True, eq=False)
class VerdictRows:
    """Verdicts as columns. a and b share one list of names; score_R: of `a`, in [0, 1]; weight_R: 0 to `MAX_WEIGHT`."""

    a: Coded
    b: Coded
    score_R: FloatArray
    weight_R: FloatArray
    group: Coded
    judge: Coded | None = None


@dataclass(frozen=True, slots=True)
class RowFault:
    """What is wrong with a row: its number from 0, the key, what stands there, and the cure."""

    row: int
    key: str
    value: str
    cure: str

    def __str__(self) -> str:
        return f"{self.key}: {self.value}; {self.cure}"


@dataclass(frozen=True, slots=True, eq=False)
class GroupTable:
    """One group's table of verdicts, and the names of its candidates by slot, sorted."""

    name: str
    items: list[str]
    table: VerdictTable


def encode(*columns: Sequence[str]) -> list[Coded]:
    """Columns of names as codes into one shared list of the distinct names, by first appearance."""
    codes: dict[str, int] = {}
    for column in columns:
        for name in dict.fromkeys(column):
            codes.setdefault(name, len(codes))
    names = list(codes)
    return [Coded(np.fromiter(map(codes.__getitem__, c), dtype=np.int64, count=len(c)), names) for c in columns]


def first_fault(rows: VerdictRows) -> RowFault | None:
    """The first row that is no verdict: score or weight is out of range or NaN, or an item meets itself."""
    score_R, weight_R = rows.score_R, rows.weight_R
    bad_score_R = ~((score_R >= 0.0) & (score_R <= 1.0))
    bad_weight_R = ~((weight_R >= 0.0) & (weight_R <= MAX_WEIGHT))
    itself_R = rows.a.codes_R == rows.b.codes_R
    bad_R = bad_score_R | bad_weight_R | itself_R
    if not bad_R.any():
        return None
    row = int(np.argmax(bad_R))
    if bad_score_R[row]:
        return RowFault(row, "score", f"{score_R[row]:g}", "must be a number in [0, 1]: 1 if a won, 0.5 for a tie, 0")
    if bad_weight_R[row]:
        return RowFault(row, "weight", f"{weight_R[row]:g}", f"must be a number from 0 to {MAX_WEIGHT:g}")
    return RowFault(row, "b", repr(rows.b.names[rows.b.codes_R[row]]), "must be another item than a")


def verdict_kind(score_R: FloatArray) -> VerdictKind:
    """`hard` if every score is 0, 0.5 or 1, else `probability`."""
    return "hard" if bool(np.isin(score_R, (0.0, 0.5, 1.0)).all()) else "probability"


def group_tables(rows: VerdictRows, judge_weights: Mapping[str, float]) -> list[GroupTable]:
    """One table per group, groups by name. Every row is a match of its own and weighs `weight_R` times its judge's.

    Rows carry no seats: the lower slot stands first, so that a row and its mirror image (b, a, 1 - score) are one. Rows
    of weight 0 are absent, but their items are known. Rows of a group keep their order.
    """
    weight_R = rows.weight_R
    if rows.judge is not None and judge_weights:
        weight_R = weight_R * np.array([judge_weights.get(name, 1.0) for name in rows.judge.names])[rows.judge.codes_R]
    item_order, item_rank = _sorted_names(rows.a.names)
    group_order, group_rank = _sorted_names(rows.group.names)
    num_names = max(1, len(item_order))
    group_R = group_rank[rows.group.codes_R]
    keys_2R = group_R * num_names + item_rank[np.stack([rows.a.codes_R, rows.b.codes_R])]
    keys_U, slots_2R = np.unique(keys_2R, return_inverse=True)
    groups, starts = np.unique(keys_U // num_names, return_index=True)
    ends = np.append(starts[1:], len(keys_U))
    first_slot = np.zeros(len(group_order), dtype=np.int64)
    first_slot[groups] = starts
    slots_2R = slots_2R.reshape(2, -1) - first_slot[group_R]
    flipped_R = slots_2R[0] > slots_2R[1]
    value_R = np.where(flipped_R, 1.0 - rows.score_R, rows.score_R)
    order_R = np.argsort(group_R, kind="stable")
    order_R = order_R[weight_R[order_R] > 0.0]
    low_R, high_R = np.minimum(*slots_2R)[order_R], np.maximum(*slots_2R)[order_R]
    value_R, weight_R, group_R = value_R[order_R], weight_R[order_R], group_R[order_R]
    kind = verdict_kind(rows.score_R)
    cuts = np.searchsorted(group_R, np.stack([groups, groups + 1]))
    tables: list[GroupTable] = []
    for group, start, end, first_row, last_row in zip(groups, starts, ends, *cuts, strict=True):
        rows_V = slice(first_row, last_row)
        table = VerdictTable(
            num_candidates=int(end - start),
            kind=kind,
            first_V=low_R[rows_V],
            second_V=high_R[rows_V],
            value_V=value_R[rows_V],
            weight_V=weight_R[rows_V],
            match_V=np.arange(last_row - first_row),
            symmetric=True,
        )
        items = [item_order[key] for key in (keys_U[start:end] % num_names).tolist()]
        tables.append(GroupTable(group_order[group], items, table))
    return tables


def _sorted_names(names: Sequence[str]) -> tuple[list[str], IntArray]:
    """The names in order, and the place of each in that order."""
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return [names[index] for index in order], place
