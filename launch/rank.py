"""`podium rank`: matches in a file to a ranking per group, as JSON or as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from launch.match_file import read_matches
from rewards.aggregator_options import aggregator_config
from rewards.errors import UserError
from rewards.rank_rows import RankedGroup, rank_verdict_rows


def rank_file(
    path: Path, *, aggregator: str, settings: Sequence[str] = (), judge_weights: Sequence[str] = ()
) -> dict[str, RankedGroup]:
    """Ranks the groups of a file of matches.

    Args:
        settings: the aggregator's options as KEY=VALUE, values in JSON or plain words.
        judge_weights: NAME=W, what a verdict of that judge counts.

    Raises:
        UserError: a bad option, weight, file or row.
    """
    options = _options(settings, judge_weights)
    aggregator_config(aggregator, options)  # Refused before a long file is read.
    return rank_verdict_rows(read_matches(path), aggregator=aggregator, options=options)


def ranking_json(groups: Mapping[str, RankedGroup]) -> dict[str, Any]:
    """One document; keys that an aggregator has no value for are left out."""
    return {"groups": {name: _group_json(group) for name, group in groups.items()}}


def ranking_table(name: str, group: RankedGroup) -> Table:
    """One group for people."""
    caption = [f"{group.num_matches} matches"]
    if group.reliability is not None:
        caption.append(f"reliability {group.reliability:.3f}")
    if group.circular_triad_rate is not None:
        caption.append(f"circular triads {group.circular_triad_rate:.3f}")
    with_stderr = any(item.stderr is not None for item in group.items)
    table = Table(title=Text(name), caption=", ".join(caption))
    table.add_column("rank", justify="right")
    table.add_column("item")
    for column in ("score", *(["stderr"] if with_stderr else [])):
        table.add_column(column, justify="right")
    for item in group.items:
        numbers = [item.score, item.stderr] if with_stderr else [item.score]
        cells = ["-" if number is None else f"{number:.4f}" for number in numbers]
        table.add_row("-" if item.rank is None else str(item.rank), Text(item.item), *cells)
    return table


def _group_json(group: RankedGroup) -> dict[str, Any]:
    with_stderr = any(item.stderr is not None for item in group.items)
    with_reward = any(item.reward != item.score for item in group.items)
    items = [
        {
            "item": item.item,
            "score": item.score,
            **({"stderr": item.stderr} if with_stderr else {}),
            **({"reward": item.reward} if with_reward else {}),
            "rank": item.rank,
        }
        for item in group.items
    ]
    figures = {"reliability": group.reliability, "circular_triad_rate": group.circular_triad_rate}
    known = {key: value for key, value in figures.items() if value is not None}
    return {"items": items, **known, "num_matches": group.num_matches}


def _options(settings: Sequence[str], judge_weights: Sequence[str]) -> dict[str, Any]:
    options = {key: _value(text) for key, text in (_pair("--set", "KEY=VALUE", one) for one in settings)}
    weights = dict(_pair("--judge-weight", "NAME=W", one) for one in judge_weights)
    if weights:
        options["judge_weights"] = {name: _weight(name, text) for name, text in weights.items()}
    return options


def _pair(option: str, form: str, text: str) -> tuple[str, str]:
    # A judge's name may hold "=": the last one parts it from its weight.
    key, sign, value = text.rpartition("=") if option == "--judge-weight" else text.partition("=")
    if not sign or not key:
        raise UserError(f"{option} {text}: must be {form}")
    return key, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _weight(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--judge-weight {name}={text}: must be NAME=W with a number W >= 0") from None
