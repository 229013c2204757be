"""`podium score`: groups of answers in a file, scored by the rewards of a recipe as one batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from launch import atomic
from launch.reward_side import call_counter, needed_fields, open_reward_side
from launch.session import signals_cancel
from recipes.messages import one_line as printable
from recipes.reward import LoadedRewards
from rewards.errors import UserError
from rewards.texts import GroupOfTexts, check_fields, one_line, score_texts
from rewards.types import GroupScore

EXAMPLE = '{"prompt": "...", "candidates": ["...", "..."]}'


@dataclass(frozen=True, slots=True)
class Scored:
    """Groups with their scores, and what the calls cost by judge."""

    groups: tuple[GroupOfTexts, ...]
    scores: tuple[GroupScore, ...]
    spent: dict[str, Any]


def score_file(path: Path, loaded: LoadedRewards) -> Scored:
    """Scores every group of `path`, all as one batch, so that the aggregator learns its prior from all of them.

    Raises:
        UserError: bad input; the first bad line is named.
        RunStopped: the judge is down.
    """
    groups = read_groups(path)
    try:
        check_fields(groups, needed_fields(loaded.recipe.rewards))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return asyncio.run(_score(groups, loaded))


async def _score(groups: Sequence[GroupOfTexts], loaded: LoadedRewards) -> Scored:
    with signals_cancel(), call_counter(f"scoring {len(groups)} groups") as on_call:
        async with open_reward_side(loaded) as side:
            sink = side.sink(on_call=on_call)
            try:
                scores = await score_texts(sink, groups)
            finally:
                await sink.stop()
            return Scored(tuple(groups), tuple(scores), side.ledger.summary().get("scoring", {}))


def read_groups(path: Path) -> list[GroupOfTexts]:
    """One group a line; blank lines are skipped.

    Raises:
        UserError: no such file, no rows, or a bad row; the first bad line is named.
    """
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; give a file of groups (JSONL)") from None
    groups: list[GroupOfTexts] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            groups.append(GroupOfTexts.model_validate_json(line))
        except ValidationError as error:
            raise UserError(f"{path}:{number}: {printable(one_line(error))}; a line is like {EXAMPLE}") from None
    if not groups:
        raise UserError(f"{path}: no rows; give one group a line: {EXAMPLE}")
    return groups


def score_rows(scored: Scored) -> list[dict[str, Any]]:
    """A row per group, for scripts."""
    return [
        {
            "id": str(number) if group.id is None else group.id,
            "rewards": score.rewards,
            "reliability": score.reliability,
            "gate_failures": {name: list(slots) for name, slots in score.gate_failures.items()},
            "num_calls": score.num_calls,
            "num_cached": score.num_cached,
            "num_failed": score.num_failed,
            "failures": dict(score.failures),
            "per_criterion": {name: list(rates) for name, rates in score.per_criterion.items()},
        }
        for number, (group, score) in enumerate(zip(scored.groups, scored.scores, strict=True))
    ]


def write_rows(scored: Scored, path: Path) -> None:
    """Raises UserError where the file cannot be written."""
    lines = "".join(json.dumps(row) + "\n" for row in score_rows(scored))
    try:
        atomic.write_bytes(path, lines.encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another file") from None


def score_table(scored: Scored) -> Table:
    table = Table("group", "rewards", "reliability", "calls", "cached", "failed", title=_spent_text(scored.spent))
    for row in score_rows(scored):
        rewards = " ".join("-" if reward is None else f"{reward:.3f}" for reward in row["rewards"])
        reliability = "-" if row["reliability"] is None else f"{row['reliability']:.3f}"
        counts = (str(row[key]) for key in ("num_calls", "num_cached", "num_failed"))
        table.add_row(Text(row["id"]), rewards, reliability, *counts)
    return table


def _spent_text(spent: dict[str, Any]) -> Text | None:
    lines = [
        f"{judge}: {figures['num_calls']} calls, {figures['num_cached']:.0f} from the cache, "
        f"{figures['tokens_in']:.0f} tokens in, {figures['tokens_out']:.0f} out, cost {figures['cost']:.4g}"
        for judge, figures in spent.items()
    ]
    return Text("\n".join(lines)) if lines else None
