"""`podium judge-audit`: real judges of real recipes over a file of pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.judge_audit import audit_text, judge_audit
from launch.pairs import group_pairs
from recipes.reward import LoadedRewards, load_rewards
from rewards.errors import UserError
from rewards.types import GroupScore
from tests.launch.test_pairs import group as group_of

PAIRS = [
    {"prompt": "p", "better": "three words here", "worse": "two words"},
    {"prompt": "p", "chosen": "ok", "rejected": "a very long answer", "id": "short wins"},
    {"prompt": "p", "better": "long answer", "worse": "short", "id": 7},
    {"prompt": "p", "better": "same size", "worse": "size same"},
]


def rewards(folder: Path, judge: str = "longer", more: str = "", judge_more: str = ", verdict: hard") -> LoadedRewards:
    path = folder / "rewards.yaml"
    path.write_text(
        "seed: 3\nrewards:\n  kind: tournament\n"
        f"  judge: {{kind: python, target: 'tests.launch.reward_plugins:{judge}'{judge_more}}}\n{more}"
    )
    return load_rewards(path)


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_a_judge_of_lengths_is_right_where_the_longer_is_better(tmp_path: Path) -> None:
    result = judge_audit(file_of(tmp_path, *PAIRS), rewards(tmp_path), attacks=())
    assert result["accuracy"]["value"] == result["longer_is_better_rate"]["value"] == 2.5 / 4
    assert result["accuracy"]["low"] < 2.5 / 4 < result["accuracy"]["high"]
    assert result["order_flip_rate"]["value"] == 0.0
    assert result["first_seat_rate"]["value"] == 0.5
    assert result["tie_rate"]["value"] == 0.25
    assert (result["num_pairs"], result["num_missing"], result["num_calls"]) == (4, 0, 8)
    assert sum(judge["num_calls"] for judge in result["judges"].values()) == 8
    assert "accuracy (ties count half)  0.625 [" in audit_text(result)


def test_what_pairs_prints_is_read(tmp_path: Path) -> None:
    made = group_of(["short", "the longer answer"])
    rows = group_pairs(made, GroupScore([0.2, 0.8]), which="all", min_margin=0.0)
    rows = [row | {"prompt": [{"role": "user", "content": "p"}]} for row in rows]  # a group of the tests has none
    result = judge_audit(file_of(tmp_path, *rows), rewards(tmp_path), attacks=())
    assert (result["num_pairs"], result["accuracy"]["value"]) == (1, 1.0)


def test_what_the_recipe_does_with_verdicts_is_left_aside(tmp_path: Path) -> None:
    more = "  orders: first\n  budget: {calls_per_group: 1}\n  gates: [{kind: length, max_words: 1}]\n"
    result = judge_audit(file_of(tmp_path, *PAIRS), rewards(tmp_path, more=more))
    assert result["num_calls"] == 8


def test_length_control_takes_the_length_out(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "better": "b" * (n + 2), "worse": "w"} for n in range(12)]
    result = judge_audit(
        file_of(tmp_path, *rows, *({**row, "better": "", "worse": "ww"} for row in rows[:4])), rewards(tmp_path)
    )
    assert result["accuracy"]["value"] == 0.75
    assert result["length_controlled_accuracy"]["value"] < 0.75


def test_a_judge_that_is_always_right_says_nothing_of_the_length(tmp_path: Path) -> None:
    found = judge_audit(file_of(tmp_path, PAIRS[0], PAIRS[2]), rewards(tmp_path), attacks=())
    assert (found["length_controlled_accuracy"]["low"], found["length_controlled_accuracy"]["high"]) == (0.0, 1.0)


def test_failed_verdicts_are_missing_and_counted_by_cause(tmp_path: Path) -> None:
    rows = [*PAIRS, {"prompt": "p", "better": "x", "worse": "y"}]
    result = judge_audit(file_of(tmp_path, *rows), rewards(tmp_path, "fails_for_x"))
    assert (result["num_missing"], result["failures"]) == (1, {"empty": 2})
    assert result["accuracy"] == judge_audit(file_of(tmp_path, *PAIRS), rewards(tmp_path))["accuracy"]


def test_a_judge_of_the_first_seat_has_kappa_zero(tmp_path: Path) -> None:
    result = judge_audit(file_of(tmp_path, *PAIRS), rewards(tmp_path, "first_seat"))
    assert (result["accuracy"]["value"], result["kappa"]["value"]) == (0.5, 0.0)
    assert result["order_flip_rate"]["value"] == result["first_seat_rate"]["value"] == 1.0


def test_probabilities_are_held_against_how_often_they_are_right(tmp_path: Path) -> None:
    result = judge_audit(file_of(tmp_path, *PAIRS[:3]), rewards(tmp_path, judge_more=", verdict: probability"))
    # Says 1, 0 and 1 for the better answers: two right, one as wrong as can be.
    assert result["brier"]["value"] == pytest.approx(1 / 3)
    assert result["expected_calibration_error"]["value"] == pytest.approx(1 / 3)
    assert "accuracy_by_margin" not in result
    assert "says 1.000, is right 0.667, 3 pairs" in audit_text(result)


def test_scores_by_margin_and_a_symmetric_judge_once(tmp_path: Path) -> None:
    judge_more = ", verdict: score, symmetric: true"
    result = judge_audit(file_of(tmp_path, *PAIRS), rewards(tmp_path, "more_letters", judge_more=judge_more))
    assert result["num_calls"] == 4
    assert {"order_flip_rate", "first_seat_rate"}.isdisjoint(result)
    # By seats, and so in both orders: right 4, wrong 2, level 2 of 8; by chance 3/8 from the judge's 3, 3 and 2.
    assert result["kappa"]["value"] == pytest.approx((4 / 8 - 3 / 8) / (1 - 3 / 8))
    assert [row["max_margin"] for row in result["accuracy_by_margin"]] == [0.0, 6.0, 7.0, 16.0]
    assert [row["value"] for row in result["accuracy_by_margin"]] == [0.5, 1.0, 1.0, 0.0]
    assert "brier" not in result


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"pairs\.jsonl:2: is no JSON"),
        ({"prompt": "p", "better": "b"}, r"pairs\.jsonl:2: needs the texts"),
        ({**PAIRS[0], "id": []}, r"2: id is a text"),
        ({**PAIRS[0], "fields": {"a": 1}}, r"2: fields are texts"),
    ],
)
def test_a_bad_line_is_named(line: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        judge_audit(file_of(tmp_path, PAIRS[0], line), rewards(tmp_path))


def test_a_scorer_is_no_judge(tmp_path: Path) -> None:
    path = tmp_path / "rewards.yaml"
    path.write_text("rewards: {kind: scorer, target: 'tests.launch.reward_plugins:words'}")
    with pytest.raises(UserError, match="come from a scorer"):
        judge_audit(file_of(tmp_path, *PAIRS), load_rewards(path))


def test_the_command(tmp_path: Path) -> None:
    rewards(tmp_path)
    out = tmp_path / "out.json"
    arguments = ["judge-audit", str(file_of(tmp_path, *PAIRS)), "--reward", str(tmp_path / "rewards.yaml")]
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0, table.output
    assert "4 pairs" in table.stdout
    written = CliRunner().invoke(app, [*arguments, "-o", str(out), "--json"])
    assert json.loads(written.stdout) == json.loads(out.read_text())
