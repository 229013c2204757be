"""A group's match log as flat rows, one per judge call, for a table such as Parquet.

Every row has the same keys. A call about a pair fills a, b, first, second, first_text, second_text and value; one that
ranked a slate (topology `k_wise`) has None there, `kind` ranking, and fills three columns that a pair has empty:

    shown        slots in the order shown          [3, 0, 2]
    shown_texts  their texts                       ["...", "...", "..."]
    places       place of each, 0 for the best     [1, 0, 1]; None where the call failed

`criteria` is JSON: how much better the first is on each criterion, from -1 to 1; None from judges without criteria.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rewards.types import Call, GroupKey, GroupScore, Match, Prompt, Ranking, Verdict, VerdictKind

Row = dict[str, Any]


def match_rows(key: GroupKey, prompt: Prompt, texts: Sequence[str | None], score: GroupScore) -> list[Row]:
    """One row per call, in the order of the match log.

    Args:
        texts: the group's answers by slot; None where a slot has no rollout.
    """
    rows = [
        _pair_columns(match, call, texts, score.kind) | _cost_columns(call.verdict, call.judge, call.weight)
        for match in score.matches
        for call in match.calls
    ]
    rows += [
        _ranking_columns(ranking, texts) | _cost_columns(ranking, ranking.judge, ranking.weight)
        for ranking in score.rankings
    ]
    group = {"prompt_id": prompt.id, "group_id": key.group_id, "attempt": key.attempt, "prompt_text": prompt.text}
    return [{name: (group | row)[name] for name in COLUMNS} for row in rows]


COLUMNS = (
    *("prompt_id", "group_id", "attempt", "a", "b", "round", "first", "second"),
    *("prompt_text", "first_text", "second_text", "kind", "value", "failure", "reason", "judge", "weight"),
    *("latency_s", "tokens_in", "tokens_out", "cost", "attempts"),
    *("shown", "shown_texts", "places"),
    "criteria",
)


def _pair_columns(match: Match, call: Call, texts: Sequence[str | None], kind: VerdictKind | None) -> Row:
    return {
        "a": match.pairing.a,
        "b": match.pairing.b,
        "round": match.pairing.round,
        "first": call.first,
        "second": call.second,
        "first_text": texts[call.first],
        "second_text": texts[call.second],
        "kind": kind,
        "value": call.verdict.value,
        "criteria": json.dumps(dict(call.verdict.criteria)) if call.verdict.criteria else None,
        **dict.fromkeys(("shown", "shown_texts", "places")),
    }


def _ranking_columns(ranking: Ranking, texts: Sequence[str | None]) -> Row:
    return {
        **dict.fromkeys(("a", "b", "first", "second", "first_text", "second_text", "value", "criteria")),
        "round": ranking.slate.round,
        "kind": "ranking",
        "shown": list(ranking.shown),
        "shown_texts": [texts[slot] for slot in ranking.shown],
        "places": None if ranking.places is None else list(ranking.places),
    }


def _cost_columns(asked: Verdict | Ranking, judge: str, weight: float) -> Row:
    return {
        "failure": asked.failure,
        # JSON lets a model write half of a surrogate pair; a table takes none.
        "reason": asked.reason.encode("utf-8", "replace").decode(),
        "judge": judge,
        "weight": weight,
        "latency_s": asked.latency_s,
        "tokens_in": asked.tokens_in,
        "tokens_out": asked.tokens_out,
        "cost": asked.cost,
        "attempts": asked.attempts,
    }
