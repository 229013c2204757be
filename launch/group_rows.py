"""Groups and their scores as table rows, one row per rollout slot, and back, bit for bit; and their match logs.

Columns that repeat inside a group hold its prompt. `score` holds the whole GroupScore as JSON on the group's first row;
`reward` and `reliability` repeat what a reader of the table wants to see. Floats in JSON survive: Python writes the
shortest text that reads back as the same double.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from rewards.match_rows import match_rows
from rewards.types import (
    Audit,
    Call,
    GroupKey,
    GroupScore,
    KnownAnswer,
    Match,
    Pairing,
    ParsedAnswer,
    Prompt,
    Ranking,
    Segment,
    Slate,
    TextSpan,
    Verdict,
)
from rollouts.types import Group, Rollout, Turn, VersionSpan, candidate_of

SCHEMA = pa.schema(
    [
        ("group_id", pa.string()),
        ("attempt", pa.int32()),
        ("index", pa.int32()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("messages", pa.string()),
        ("fields", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("reward", pa.float64()),
        ("reliability", pa.float64()),
        ("finish_reason", pa.string()),
        ("seed", pa.int64()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("loss_mask", pa.list_(pa.bool_())),
        ("versions", pa.list_(pa.struct([("version", pa.int64()), ("start", pa.int32()), ("end", pa.int32())]))),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("start", pa.int32()), ("end", pa.int32())]))),
        ("parsed", pa.string()),
        ("score", pa.string()),
    ]
)


def groups_to_table(groups: Sequence[Group], scores: Sequence[GroupScore]) -> pa.Table:
    """One row per slot; a slot that was given up has a null `text`.

    Raises:
        ValueError: `groups` and `scores` do not fit each other, or a group has no slots.
        TypeError: `ParsedAnswer.fields` or `Prompt.fields` hold something that is no plain JSON value.
    """
    rows = [row for group, score in zip(groups, scores, strict=True) for row in _group_rows(group, score)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def table_to_groups(table: pa.Table) -> tuple[list[Group], list[GroupScore]]:
    """The inverse of `groups_to_table`.

    Raises:
        KeyError, ValueError: the table was not written by `groups_to_table`.
    """
    groups, scores = [], []
    for key, rows in groupby(table.to_pylist(), key=lambda row: GroupKey(row["group_id"], row["attempt"])):
        slots = list(rows)
        first = slots[0]
        groups.append(
            Group(
                key=key,
                prompt=Prompt(
                    id=first["prompt_id"],
                    text=first["prompt"],
                    messages=tuple(json.loads(first["messages"])),
                    fields=json.loads(first["fields"]),
                ),
                prompt_token_ids=np.asarray(first["prompt_token_ids"], dtype=np.int32),
                rollouts=tuple(_row_rollout(key, row) for row in slots),
            )
        )
        scores.append(_score_from_json(json.loads(first["score"])))
    return groups, scores


def all_match_rows(groups: Sequence[Group], scores: Sequence[GroupScore]) -> list[dict[str, Any]]:
    """The match log of a step, a row per judge call."""
    rows: list[dict[str, Any]] = []
    for group, score in zip(groups, scores, strict=True):
        texts = [None if rollout is None else candidate_of(rollout).text for rollout in group.rollouts]
        rows += match_rows(group.key, group.prompt, texts, score)
    return rows


def all_audit_rows(groups: Sequence[Group], scores: Sequence[GroupScore]) -> list[dict[str, Any]]:
    """The same of what a second judge said."""
    audits = [score.audit or Audit("hard") for score in scores]
    said = [
        replace(score, matches=audit.matches, kind=audit.kind, rankings=())
        for score, audit in zip(scores, audits, strict=True)
    ]
    return all_match_rows(groups, said)


def _group_rows(group: Group, score: GroupScore) -> list[dict[str, Any]]:
    if not group.rollouts:
        raise ValueError(f"group {group.key} has no slots")
    if len(score.rewards) != len(group.rollouts):
        raise ValueError(f"group {group.key}: {len(score.rewards)} rewards for {len(group.rollouts)} slots")
    shared = {
        "group_id": group.key.group_id,
        "attempt": group.key.attempt,
        "prompt_id": group.prompt.id,
        "prompt": group.prompt.text,
        "messages": json.dumps([dict(message) for message in group.prompt.messages]),
        "fields": json.dumps(dict(group.prompt.fields)),
        "prompt_token_ids": group.prompt_token_ids,
        "reliability": score.reliability,
    }
    return [
        shared
        | {"index": index, "reward": score.rewards[index], "score": json.dumps(asdict(score)) if index == 0 else None}
        | (_rollout_columns(rollout) if rollout is not None else {})
        for index, rollout in enumerate(group.rollouts)
    ]


def _rollout_columns(rollout: Rollout) -> dict[str, Any]:
    return {
        "text": rollout.text,
        "finish_reason": rollout.finish_reason,
        "seed": rollout.seed,
        "token_ids": rollout.token_ids,
        "logprobs": rollout.logprobs,
        "loss_mask": rollout.loss_mask,
        "versions": [asdict(span) for span in rollout.versions],
        "turns": [asdict(turn) for turn in rollout.turns],
        "parsed": json.dumps(asdict(rollout.parsed)),
    }


def _row_rollout(key: GroupKey, row: Mapping[str, Any]) -> Rollout | None:
    if row["text"] is None:
        return None
    parsed = json.loads(row["parsed"])
    return Rollout(
        key=key,
        index=row["index"],
        seed=row["seed"],
        token_ids=np.asarray(row["token_ids"], dtype=np.int32),
        logprobs=np.asarray(row["logprobs"], dtype=np.float32),
        loss_mask=np.asarray(row["loss_mask"], dtype=np.bool_),
        text=row["text"],
        finish_reason=row["finish_reason"],
        versions=tuple(VersionSpan(**span) for span in row["versions"]),
        turns=tuple(Turn(**turn) for turn in row["turns"]),
        parsed=ParsedAnswer(
            **parsed
            | {
                "spans": tuple(TextSpan(**span) for span in parsed.get("spans", ())),
                "segments": tuple(Segment(**segment) for segment in parsed["segments"]),
            }
        ),
    )


def _score_from_json(saved: dict[str, Any]) -> GroupScore:
    return GroupScore(
        **saved
        | {
            "matches": tuple(_match_from_json(match) for match in saved["matches"]),
            "rankings": tuple(_ranking_from_json(ranking) for ranking in saved.get("rankings", ())),
            "gate_failures": {gate: tuple(slots) for gate, slots in saved["gate_failures"].items()},
            "audit": _audit_from_json(saved["audit"]) if saved.get("audit") is not None else None,
            "known_answers": tuple(KnownAnswer(**answer) for answer in saved.get("known_answers", ())),
        }
    )


def _audit_from_json(saved: dict[str, Any]) -> Audit:
    matches = tuple(_match_from_json(match) for match in saved["matches"])
    return Audit(saved["kind"], matches, saved["num_unasked"])


def _match_from_json(saved: dict[str, Any]) -> Match:
    calls = tuple(Call(**call | {"verdict": Verdict(**call["verdict"])}) for call in saved["calls"])
    return Match(pairing=Pairing(**saved["pairing"]), calls=calls)


def _ranking_from_json(saved: dict[str, Any]) -> Ranking:
    places = saved["places"]
    slate = Slate(tuple(saved["slate"]["members"]), saved["slate"]["round"])
    return Ranking(
        **saved | {"slate": slate, "shown": tuple(saved["shown"]), "places": None if places is None else tuple(places)}
    )
