"""`podium rejudge`: tau and flips by hand, another judge over a run's groups, and the cache that it leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.rejudge import change, rejudge, summarize, summary_text
from launch.run_dir import RunDir
from recipes.reward import load_rewards
from rewards.errors import UserError
from rewards.types import Call, GroupScore, Match, Pairing, Verdict
from rollouts.types import Group
from tests.launch import reward_plugins
from tests.launch.test_score import rewards
from tests.rl.fakes import make_group, make_rollout

TEXTS = (["a", "a b", "a b c"], ["aaaa", "b", "cc"])


def groups(step: int) -> list[Group]:
    made = []
    for slot, texts in enumerate(TEXTS):
        group = make_group(f"step{step}-{slot}", [1] * len(texts), prompt_id=f"p{slot}")
        rollouts = tuple(make_rollout(group.key, i, text=f"{text}{step}") for i, text in enumerate(texts))
        made.append(Group(group.key, group.prompt, group.prompt_token_ids, rollouts))
    return made


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two steps, judged by `longer`."""
    from launch.rejudge import _judge
    from launch.reward_side import open_reward_side

    (tmp_path / "storage").mkdir()
    made = RunDir.create(tmp_path / "storage", "demo", {"name": "demo"}, seed=0, command=["podium"])
    loaded = rewards(tmp_path)

    async def judged(step: int) -> list[GroupScore]:
        async with open_reward_side(loaded) as side:
            return await _judge(groups(step), side.sink())

    for step in (1, 2):
        made.save_groups(step, groups(step), asyncio.run(judged(step)))
    return made


def test_tau_and_flips_by_hand() -> None:
    # Pairs: (0,1) kept, (0,2) kept, (1,2) changed; slot 3 is scored once only. tau = (2 - 1) / 3.
    one = change(GroupScore([0.0, 0.5, 1.0, 0.7]), GroupScore([0.0, 1.0, 0.5, None]))
    assert (one.num_flips, one.num_pairs) == (1, 3)
    assert one.tau == pytest.approx(1 / 3)
    # A tie before: two pairs are decided in both. tau-b = 2 / sqrt(3 * 2).
    tied = change(GroupScore([0.5, 0.5, 1.0]), GroupScore([0.0, 0.5, 1.0]))
    assert (tied.num_flips, tied.num_pairs) == (0, 2)
    assert tied.tau == pytest.approx(2 / 6**0.5)
    level = change(GroupScore([0.5, 0.5]), GroupScore([0.0, 1.0]))
    assert (level.tau, level.num_pairs) == (None, 0)
    assert change(GroupScore([None, 0.5]), GroupScore([0.0, 1.0])).tau is None


def test_agreement_is_over_pairs_whatever_the_round() -> None:
    def score(round_number: int, *values: float) -> GroupScore:
        pairs = ((0, 1), (0, 2), (1, 2))
        matches = tuple(
            Match(Pairing(a, b, round_number), (Call(a, b, Verdict(value), "j"),))
            for (a, b), value in zip(pairs, values, strict=False)
        )
        return GroupScore([0.0, 0.5, 1.0], matches=matches, kind="hard")

    found = summarize([score(0, 1.0, 1.0, 0.0)], [score(4, 1.0, 0.0)], seed=0)["agreement"]
    assert (found["num_pairs"], found["share"]["value"]) == (2, 0.5)


def test_the_same_judge_says_the_same_and_the_opposite_the_opposite(run: RunDir, tmp_path: Path) -> None:
    same = rejudge(run, rewards(tmp_path))
    assert (same["kendall_tau"]["value"], same["flip_rate"]["value"], same["num_calls"]) == (1.0, 0.0, 24)
    assert same["agreement"]["share"]["value"] == 1.0
    opposite = rejudge(run, rewards(tmp_path, "shorter"), steps=[2])
    assert (opposite["kendall_tau"]["value"], opposite["flip_rate"]["value"]) == (-1.0, 1.0)
    assert (opposite["num_groups"], opposite["num_calls"]) == (2, 12)
    assert [(row["step"], row["num_flips"], row["num_pairs"]) for row in opposite["groups"]] == [(2, 3, 3)] * 2


def test_another_topology_costs_less_and_a_second_time_nothing(run: RunDir, tmp_path: Path) -> None:
    rewards(tmp_path, judge_more=", version: '1'")
    overrides = ["rewards.topology={kind: random_reference}"]
    first = rejudge(run, load_rewards(tmp_path / "rewards.yaml", overrides))
    assert (first["num_calls"], first["num_cached"]) == (16, 0)
    reward_plugins.ASKED.clear()
    second = rejudge(run, load_rewards(tmp_path / "rewards.yaml", overrides))
    assert second["num_cached"] == 16
    assert reward_plugins.ASKED == []
    assert [row["rewards_after"] for row in second["groups"]] == [row["rewards_after"] for row in first["groups"]]
    assert (run.path / "judge_cache.sqlite").is_file()


def test_known_pairs_are_asked_and_shown(run: RunDir, tmp_path: Path) -> None:
    known = tmp_path / "known.jsonl"
    known.write_text('{"prompt": "p", "better": "longer", "worse": "short"}\n')
    result = rejudge(run, rewards(tmp_path, more=f"  calibration: {{file: {known}, per_group: 2}}\n"))
    assert (result["num_calls"], result["calibration_accuracy"]["value"]) == (24, 1.0)
    (judge,) = result["judges"].values()
    assert judge["num_calls"] == 24 + 4 * 2
    assert "known answers right                   1.000" in summary_text(result)


def test_steps_and_fields_that_are_not_there(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--step 3: .* has groups of steps \[1, 2\]"):
        rejudge(run, rewards(tmp_path), steps=[3])
    with pytest.raises(UserError, match="has no field 'text', which the rewards read"):
        rejudge(run, rewards(tmp_path, more="  gates: [{kind: copy_ratio, field: text}]\n"))


def test_the_command(run: RunDir, tmp_path: Path) -> None:
    rewards(tmp_path, "shorter")
    out = tmp_path / "out.json"
    arguments = ["rejudge", str(run.path), "--reward", str(tmp_path / "rewards.yaml"), "-o", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "pairs that changed places             1.000 [1.000, 1.000]" in done.stdout
    result: dict[str, Any] = json.loads(out.read_text())
    assert len(result["groups"]) == 4
    printed = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert {**printed, "judges": {}} == {**result, "judges": {}}
