from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.pairs import group_pairs
from launch.run_dir import RunDir
from rewards.types import GroupScore
from rollouts.types import Group
from tests.rl.fakes import make_group, make_rollout


def group(texts: list[str | None]) -> Group:
    made = make_group("step1-0", [1] * len(texts))
    rollouts = (None if text is None else make_rollout(made.key, i, text=text) for i, text in enumerate(texts))
    return Group(made.key, made.prompt, made.prompt_token_ids, tuple(rollouts))


def meetings(group: Group, rewards: list[float | None], **options: object) -> list[tuple[str, str]]:
    rows = group_pairs(group, GroupScore(rewards), **({"which": "all", "min_margin": 0.0} | options))  # type: ignore[arg-type]
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows]


def test_all_pairs_have_the_better_answer_first_and_ties_are_none() -> None:
    assert meetings(group(["a", "b", "c"]), [0.2, 0.9, 0.2]) == [("b", "a"), ("b", "c")]


def test_best_and_worst() -> None:
    assert meetings(group(["a", "b", "c"]), [0.2, 0.9, 0.4], which="best_worst") == [("b", "a")]
    assert meetings(group(["a", "b"]), [0.5, 0.5], which="best_worst") == []


def test_lost_and_unscored_rollouts_are_in_no_pair() -> None:
    assert meetings(group(["a", None, "c", "d"]), [0.2, 0.9, None, 0.1]) == [("a", "d")]
    assert meetings(group(["a", "b"]), [0.3, None], which="best_worst") == []


def test_a_margin_leaves_close_calls_out() -> None:
    assert meetings(group(["a", "b", "c"]), [0.0, 0.5, 0.6], min_margin=0.5) == [("c", "a"), ("b", "a")]


def test_the_command_prints_a_line_a_pair(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "demo", {"name": "demo"}, seed=0)
    refused = CliRunner().invoke(app, ["pairs", str(run.path)])
    assert "no groups yet" in str(refused.exception)
    for step in (1, 2):
        run.save_groups(step, [group(["a", "b"])], [GroupScore([0.25, 0.75], reliability=0.5)])
    done = CliRunner().invoke(app, ["pairs", str(run.path)])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0] == {
        "prompt": [],
        "chosen": [{"role": "assistant", "content": "b"}],
        "rejected": [{"role": "assistant", "content": "a"}],
        "chosen_reward": 0.75,
        "rejected_reward": 0.25,
        "reliability": 0.5,
        "group": "step1-0#0",
        "step": 1,
    }


@pytest.mark.parametrize("which", ["all", "best_worst"])
def test_an_empty_group_has_no_pairs(which: str) -> None:
    assert meetings(group([None, None]), [None, None], which=which) == []
