"""Match logs as flat rows."""

from __future__ import annotations

from rewards.match_rows import match_rows
from rewards.types import Call, GroupKey, GroupScore, Match, Pairing, Prompt, Verdict


def test_one_row_per_call() -> None:
    verdict = Verdict(0.7, reason="clearer", latency_s=0.2, tokens_in=90, tokens_out=1, cost=0.01, attempts=2)
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
        "latency_s": 0.2,
        "tokens_in": 90,
        "tokens_out": 1,
        "cost": 0.01,
        "attempts": 2,
    }
    assert (rows[1]["first_text"], rows[1]["value"], rows[1]["failure"]) == ("two", None, "timeout")
    assert rows[1].keys() == rows[0].keys()


def test_no_matches_no_rows() -> None:
    assert match_rows(GroupKey("g"), Prompt("p", ""), ["a"], GroupScore([None])) == []
