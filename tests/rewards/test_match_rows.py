"""Match logs as flat rows."""

from __future__ import annotations

import pyarrow as pa

from rewards.match_rows import match_rows
from rewards.types import Call, GroupKey, GroupScore, Match, Pairing, Prompt, Ranking, Slate, Verdict


def test_one_row_per_call() -> None:
    verdict = Verdict(*(0.7, None, "clearer", 0.2, 90, 1, 0.01), attempts=2, criteria={"depth": 0.5, "facts": 0.0})
    calls = (Call(0, 2, verdict, "judge"), Call(2, 0, Verdict(None, "timeout"), "judge"))
    score = GroupScore([None] * 3, matches=(Match(Pairing(0, 2, 1), calls),), kind="probability")
    rows = match_rows(GroupKey("step3/7", 1), Prompt("p7", "Write."), ["zero", None, "two"], score)
    assert rows[0] == {
        "prompt_id": "p7",
        "group_id": "step3/7",
        "attempt": 1,
        "a": 0,
        "b": 2,
        "round": 1,
        "first": 0,
        "second": 2,
        "prompt_text": "Write.",
        "first_text": "zero",
        "second_text": "two",
        "kind": "probability",
        "value": 0.7,
        "failure": None,
        "reason": "clearer",
        "judge": "judge",
        "weight": 1.0,
        "latency_s": 0.2,
        "tokens_in": 90,
        "tokens_out": 1,
        "cost": 0.01,
        "attempts": 2,
        "shown": None,
        "shown_texts": None,
        "places": None,
        "criteria": '{"depth": 0.5, "facts": 0.0}',
    }
    assert rows[1]["criteria"] is None
    assert list(rows[0])[:4] == ["prompt_id", "group_id", "attempt", "a"]
    assert (rows[1]["first_text"], rows[1]["value"], rows[1]["failure"]) == ("two", None, "timeout")
    assert rows[1].keys() == rows[0].keys()


def test_half_of_a_surrogate_pair_in_a_reason_fits_into_a_table() -> None:
    """A model writes \\ud83d in its JSON, and JSON lets it."""
    calls = (Call(0, 1, Verdict(1.0, reason="good \ud83d"), "judge"),)
    score = GroupScore([None] * 2, matches=(Match(Pairing(0, 1), calls),), kind="hard")
    rows = match_rows(GroupKey("g"), Prompt("p", "Write."), ["zero", "one"], score)
    assert pa.Table.from_pylist(rows)["reason"].to_pylist() == ["good ?"]


def test_no_matches_no_rows() -> None:
    assert match_rows(GroupKey("g"), Prompt("p", ""), ["a"], GroupScore([None])) == []


def test_a_ranking_is_one_row_with_the_same_keys() -> None:
    rankings = (
        Ranking(Slate((0, 1, 2), 1), (2, 0, 1), (1, 0, 1), "judge", latency_s=0.5, tokens_in=30, attempts=2),
        Ranking(Slate((0, 1, 2), 1), (1, 0, 2), None, "judge", "timeout", "too slow"),
    )
    match = Match(Pairing(0, 2), (Call(0, 2, Verdict(1.0), "judge"),))
    score = GroupScore([None] * 3, matches=(match,), kind="hard", rankings=rankings)
    pair, row, failed = match_rows(GroupKey("g"), Prompt("p", "Write."), ["zero", "one", "two"], score)
    assert list(row) == list(pair) == list(failed)
    assert {name: value for name, value in row.items() if value is not None} == {
        "prompt_id": "p",
        "group_id": "g",
        "attempt": 0,
        "round": 1,
        "prompt_text": "Write.",
        "kind": "ranking",
        "shown": [2, 0, 1],
        "shown_texts": ["two", "zero", "one"],
        "places": [1, 0, 1],
        "reason": "",
        "judge": "judge",
        "weight": 1.0,
        "latency_s": 0.5,
        "tokens_in": 30,
        "tokens_out": 0,
        "cost": 0.0,
        "attempts": 2,
    }
    assert (failed["shown"], failed["places"], failed["failure"], failed["reason"]) == (
        [1, 0, 2],
        None,
        "timeout",
        "too slow",
    )
