"""`podium score`: a file of groups in, rewards out; bad lines are named; verdicts are kept where the recipe says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.score import read_groups, score_file, score_rows
from recipes.reward import LoadedRewards, load_rewards
from rewards.errors import RunStopped, UserError
from tests.launch import reward_plugins

ROOT = Path(__file__).resolve().parents[2]
GROUPS = [
    {"prompt": "Say much.", "candidates": ["a", "three words here", "two words"], "id": "first"},
    {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "candidates": ["bb", "b"]},
]


def rewards(folder: Path, judge: str = "longer", more: str = "", judge_more: str = "") -> LoadedRewards:
    path = folder / "rewards.yaml"
    path.write_text(
        "rewards:\n  kind: tournament\n  aggregator: {kind: win_rate}\n"
        f"  judge: {{kind: python, target: 'tests.launch.reward_plugins:{judge}', verdict: hard{judge_more}}}\n{more}"
    )
    return load_rewards(path)


def file_of(folder: Path, *rows: Any) -> Path:
    path = folder / "groups.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_every_group_gets_its_rewards(tmp_path: Path) -> None:
    scored = score_file(file_of(tmp_path, *GROUPS), rewards(tmp_path))
    first, second = score_rows(scored)
    assert first["id"] == "first"
    assert first["rewards"] == [0.0, 1.0, 0.5]
    assert (first["num_calls"], first["num_failed"]) == (6, 0)
    assert (second["id"], second["rewards"]) == ("1", [1.0, 0.0])
    (judge,) = scored.spent.values()
    assert judge["num_calls"] == 8


def test_a_failed_verdict_is_missing_and_counted(tmp_path: Path) -> None:
    (row,) = score_rows(
        score_file(file_of(tmp_path, {"prompt": "", "candidates": ["x", "bb", "c"]}), rewards(tmp_path, "fails_for_x"))
    )
    assert row["rewards"] == [None, 1.0, 0.0]
    assert (row["num_failed"], row["failures"]) == (4, {"empty": 4})


def test_a_scorer_needs_no_judge(tmp_path: Path) -> None:
    path = tmp_path / "rewards.yaml"
    path.write_text("rewards: {kind: scorer, target: 'tests.launch.reward_plugins:words'}")
    scored = score_file(file_of(tmp_path, *GROUPS), load_rewards(path))
    assert [row["rewards"] for row in score_rows(scored)] == [[1.0, 3.0, 2.0], [1.0, 1.0]]
    assert scored.spent == {}


def test_a_named_cache_serves_the_next_time(tmp_path: Path) -> None:
    loaded = rewards(tmp_path, more=f"  cache: {tmp_path / 'verdicts.sqlite'}\n", judge_more=", version: '1'")
    first = score_rows(score_file(file_of(tmp_path, *GROUPS), loaded))
    reward_plugins.ASKED.clear()
    second = score_rows(score_file(file_of(tmp_path, *GROUPS), loaded))
    assert reward_plugins.ASKED == []
    assert [row["rewards"] for row in second] == [row["rewards"] for row in first]
    assert [row["num_cached"] for row in second] == [6, 2]


def test_without_a_path_nothing_is_written_beside_the_recipe(tmp_path: Path) -> None:
    score_file(file_of(tmp_path, *GROUPS), rewards(tmp_path, judge_more=", version: '1'"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["groups.jsonl", "rewards.yaml"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"groups\.jsonl:2: Invalid JSON"),
        ("[]", r"groups\.jsonl:2: Input should be an object"),
        ({"prompt": "p", "candidates": ["a"]}, r"2: candidates: List should have at least 2 items"),
        ({"prompt": "p", "candidates": ["a", 3]}, r"2: candidates\.1: Input should be a valid string"),
        ({"prompt": "p", "candidates": ["a", "b"], "x": 1}, r"2: x: Extra inputs are not permitted"),
        ({"candidates": ["a", "b"]}, r"2: prompt: Field required"),
        ({"prompt": [], "candidates": ["a", "b"]}, r"2: prompt.*: "),
        ('{"prompt": "\\ud800", "candidates": ["a", "b"]}', r"2: Invalid JSON"),
    ],
)
def test_a_bad_line_is_named(line: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_groups(file_of(tmp_path, GROUPS[0], line))
    assert "\n" not in str(error.value)


def test_no_file_and_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_groups(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="no rows"):
        read_groups(file_of(tmp_path, ""))


def test_a_field_that_the_rewards_read_must_be_there(tmp_path: Path) -> None:
    loaded = rewards(tmp_path, more="  gates: [{kind: copy_ratio, field: text}]\n")
    with pytest.raises(UserError, match=r"groups\.jsonl: group first: fields\.text is missing"):
        score_file(file_of(tmp_path, *GROUPS), loaded)


def test_a_judge_that_is_down_stops_it(tmp_path: Path) -> None:
    loaded = rewards(tmp_path, "down", "  calls: {backoff_s: 0.0, max_attempts: 50, down_after_s: 0.1}\n")
    with pytest.raises(RunStopped, match="is down"):
        score_file(file_of(tmp_path, *GROUPS), loaded)


def test_the_command_prints_a_table_or_json_or_writes_rows(tmp_path: Path) -> None:
    rewards(tmp_path)
    arguments = ["score", str(file_of(tmp_path, *GROUPS)), "--reward", str(tmp_path / "rewards.yaml")]
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0
    assert "0.000 1.000 0.500" in table.stdout
    as_json = CliRunner().invoke(app, [*arguments, "--json"])
    assert [row["id"] for row in json.loads(as_json.stdout)["groups"]] == ["first", "1"]
    out = tmp_path / "out.jsonl"
    assert CliRunner().invoke(app, [*arguments, "-o", str(out)]).stdout == ""
    assert [json.loads(line)["rewards"] for line in out.read_text().splitlines()] == [[0.0, 1.0, 0.5], [1.0, 0.0]]


def test_what_cannot_be_written_is_said_before_anybody_is_asked(tmp_path: Path) -> None:
    rewards(tmp_path)
    (tmp_path / "folder").mkdir()
    arguments = ["score", str(file_of(tmp_path, *GROUPS)), "--reward", str(tmp_path / "rewards.yaml"), "-o"]
    reward_plugins.ASKED.clear()
    for out, fault in (("nowhere/out.jsonl", "there is no folder"), ("folder", "is a folder; name a file in it")):
        done = CliRunner().invoke(app, [*arguments, str(tmp_path / out)])
        assert isinstance(done.exception, UserError)
        assert fault in str(done.exception)
    assert reward_plugins.ASKED == []


def test_what_the_recipe_names_wrongly_is_said_with_its_file(tmp_path: Path) -> None:
    file = file_of(tmp_path, *GROUPS)
    with pytest.raises(UserError, match=r"^.*rewards\.yaml: target 'tests\.launch\.reward_plugins:nobody': "):
        score_file(file, rewards(tmp_path, "nobody"))
    gates = "  gates: [{kind: command, command: [no-such-tool]}]\n"
    with pytest.raises(UserError, match=r"^.*rewards\.yaml: gate command: "):
        score_file(file, rewards(tmp_path, more=gates))
    fields = "  gates: [{kind: command, command: [cat], field_files: {a.py: tests}}]\n"
    with pytest.raises(UserError, match=r"groups\.jsonl: group first: fields\.tests is missing"):
        score_file(file, rewards(tmp_path, more=fields))


@pytest.mark.slow
def test_sigterm_ends_it_with_a_line_and_nothing_half_written(tmp_path: Path) -> None:
    rewards(tmp_path, "waits")
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "launch.cli", "score", str(file_of(tmp_path, *GROUPS)), "-o", str(out)]
    command += ["--reward", str(tmp_path / "rewards.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STARTED": str(tmp_path / "started")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None and not (tmp_path / "started").exists():
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (128 + signal.SIGTERM, "ended by a signal; nothing was written\n")
    assert not out.exists()


def test_bad_input_is_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.cli", "score", str(file_of(tmp_path, "{")), "--reward", "nowhere.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "nowhere.yaml: cannot be read" in done.stderr
