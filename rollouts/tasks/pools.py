"""Pools of items with a query and a relevance: from JSONL, or made up.

A row's fields are texts: `query`, `items` (JSON: [[id, text], ..] in the order shown) and `relevant` (JSON:
{id: grade}, grades above 0), which the prompt does not show and scorers read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rollouts.config import PoolSource, SyntheticPools
from rollouts.sources import BadRowError, Row, check_text, read_objects

_ID = re.compile(r"[^\s,<>]+")
_POOL_STREAM = 0x9001
"""Keeps the generator of made-up pools apart from others that are seeded alike."""


def read_pools(source: PoolSource, base_dir: Path, *, max_items: int) -> list[Row]:
    """All pools of a source, in its order.

    Raises:
        UserError: one line per fault, each with file and line.
    """
    if isinstance(source, SyntheticPools):
        return [
            Row(_synthetic_pool(source, number), f"synthetic pool {number}") for number in range(source.num_prompts)
        ]
    return read_objects(base_dir / Path(source.path).expanduser(), lambda row: _pool_of(row, max_items), "pools")


def pool_fields(query: str, items: Sequence[tuple[str, str]], relevant: Mapping[str, float]) -> dict[str, str]:
    """A pool as the fields of a prompt."""
    return {"query": query, "items": json.dumps([list(item) for item in items]), "relevant": json.dumps(dict(relevant))}


def item_name(number: int) -> str:
    """The id of an item of a made-up pool."""
    return f"i{number:02d}"


def topic_name(number: int) -> str:
    """The word for a topic of a made-up pool."""
    return f"t{number:02d}"


def _synthetic_pool(source: SyntheticPools, number: int) -> dict[str, str]:
    """Pool `number`, by itself: more pools are the same pools and others. Ids and places say nothing of relevance."""
    rng = np.random.default_rng([_POOL_STREAM, source.seed, number])
    topic = int(rng.integers(source.num_queries or source.num_topics))
    low, high = source.relevant
    names = [item_name(n) for n in rng.permutation(source.num_ids or source.pool_size)[: source.pool_size].tolist()]
    relevant = set(rng.permutation(names)[: rng.integers(low, high + 1)].tolist())
    if source.order == "by_id":
        names.sort()
    items: list[tuple[str, str]] = []
    for name in names:
        matches = rng.random(source.topics_per_item) < (
            source.match_relevant if name in relevant else source.match_other
        )
        others = (topic + rng.integers(1, source.num_topics, source.topics_per_item)) % source.num_topics
        topics = " ".join(topic_name(int(t)) for t in np.where(matches, topic, others))
        items.append((name, topics if source.shown == "topics" else str(matches.sum())))
    return pool_fields(topic_name(topic), items, dict.fromkeys(sorted(relevant), 1.0))


def _pool_of(row: Mapping[str, Any], max_items: int) -> dict[str, str]:
    """A JSONL row as fields; says what is wrong with it."""
    unknown = sorted(row.keys() - {"query", "items", "relevant"})
    missing = [key for key in ("query", "items", "relevant") if key not in row]
    if unknown or missing:
        wrong = f"no key {missing[0]!r}" if missing else f"unknown key {unknown[0]!r}"
        raise BadRowError(f"{wrong}; a pool has query, items and relevant")
    query = _text("query", row["query"])
    items = _items(row["items"], max_items)
    return pool_fields(query, items, _grades(row["relevant"], {name for name, _ in items}))


def _items(value: Any, max_items: int) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not value:
        raise BadRowError('"items" is a list of objects with id and text')
    if len(value) > max_items:
        raise BadRowError(f'"items" has {len(value)}, more than task.max_items = {max_items}')
    items: list[tuple[str, str]] = []
    for entry in value:
        if not isinstance(entry, dict) or set(entry) != {"id", "text"}:
            raise BadRowError('an item is an object with "id" and "text", and nothing else')
        name = entry["id"]
        name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise BadRowError(f"id {entry['id']!r}: an id is a text without white space, commas and angle brackets")
        items.append((_text("id", name), _text("text", entry["text"])))
    names = [name for name, _ in items]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise BadRowError(f"id {twins[0]!r} twice in one pool")
    return items


def _grades(value: Any, known: set[str]) -> dict[str, float]:
    """Grades above 0 of the relevant items; at least one, or no answer could be better than another."""
    if isinstance(value, list):
        value = {str(name): 1 for name in value}
    if not isinstance(value, dict):
        raise BadRowError('"relevant" is a list of ids, or an object of grades by id')
    grades: dict[str, float] = {}
    for name, grade in value.items():
        if name not in known:
            raise BadRowError(f'"relevant" names {name!r}, which is not in the pool')
        if isinstance(grade, bool) or not isinstance(grade, int | float) or not 0 <= grade < 1e6:
            raise BadRowError(f"grade {grade!r} of {name!r}: a grade is a number from 0")
        if grade > 0:
            grades[name] = float(grade)
    if not grades:
        raise BadRowError('"relevant" names no item with a grade above 0')
    return grades


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRowError(f"{key!r} is {value!r:.40}; it is a text")
    check_text(key, value)
    return value
