from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.pairs import group_pairs
from launch.run_dir import RunDir
from rewards.types import Call, GroupScore, Match, Pairing, Ranking, Slate, Verdict, VerdictKind
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


def call(first: int, second: int, value: float | None, *, weight: float = 1.0) -> Call:
    return Call(first, second, Verdict(value, failure=None if value is not None else "timeout"), "j", weight)


def judged(
    kind: VerdictKind, *calls: Call, rankings: tuple[Ranking, ...] = (), **options: float
) -> list[tuple[str, str, float]]:
    """Each call a match of its own, in rounds; rewards say the opposite of the alphabet."""
    matches = tuple(
        Match(Pairing(min(one.first, one.second), max(one.first, one.second), number), (one,))
        for number, one in enumerate(calls)
    )
    score = GroupScore([0.1, 0.2, 0.3, None], matches=matches, kind=kind, rankings=rankings)
    rows = group_pairs(group(["a", "b", "c", "d"]), score, which="matches", **({"min_margin": 0.0} | options))
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["verdict"]) for row in rows]


def test_matches_go_by_the_judges_word_whatever_the_rewards_are() -> None:
    both_orders = call(0, 1, 1.0), call(1, 0, 0.0)
    assert judged("hard", *both_orders, call(3, 2, 1.0), call(0, 2, None)) == [("a", "b", 1.0), ("d", "c", 1.0)]


def test_a_judge_that_contradicts_itself_names_nobody_better() -> None:
    assert judged("hard", call(0, 1, 1.0), call(1, 0, 1.0)) == []
    # two judges, of which one counts three times as much: (3 * 1 + 1 * 0) / 4
    assert judged("hard", call(0, 1, 1.0, weight=3.0), call(0, 1, 0.0)) == [("a", "b", 0.75)]


def test_the_lead_is_in_shares_of_the_verdicts_or_in_the_judges_scores() -> None:
    calls = call(0, 1, 0.4), call(1, 2, 0.9)
    assert judged("probability", *calls) == [("b", "a", 0.6), ("b", "c", 0.9)]
    assert judged("probability", *calls, min_margin=0.5) == [("b", "c", 0.9)]
    assert judged("score", call(1, 0, -3.0), call(1, 2, 0.5), min_margin=1.0) == [("a", "b", 3.0)]


def test_a_ranking_is_a_match_of_each_two_that_are_not_level() -> None:
    rankings = (
        Ranking(Slate((0, 1, 3)), (3, 0, 1), (0, 1, 1), "j"),
        Ranking(Slate((0, 1, 3)), (0, 1, 3), None, "j", failure="timeout"),
    )
    assert judged("hard", rankings=rankings) == [("d", "a", 1.0), ("d", "b", 1.0)]


def test_matches_are_asked_for_where_there_are_some(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "demo", {"name": "demo"}, seed=0)
    run.save_groups(1, [group(["a", "b"])], [GroupScore([0.25, 0.75])])
    refused = CliRunner().invoke(app, ["pairs", str(run.path), "--matches"])
    assert "no judge compared its rollouts" in str(refused.exception)
    refused = CliRunner().invoke(app, ["pairs", str(run.path), "--matches", "--all"])
    assert "give one of the two" in str(refused.exception)
    match = Match(Pairing(0, 1), (call(0, 1, 1.0),))
    run.save_groups(1, [group(["a", "b"])], [GroupScore([0.25, 0.75], matches=(match,), kind="hard")])
    done = CliRunner().invoke(app, ["pairs", str(run.path), "--matches"])
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["chosen"][0]["content"], row["verdict"], row["chosen_reward"]) == ("a", 1.0, 0.25)


@pytest.mark.parametrize("which", ["all", "best_worst"])
def test_an_empty_group_has_no_pairs(which: str) -> None:
    assert meetings(group([None, None]), [None, None], which=which) == []
