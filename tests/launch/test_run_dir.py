from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch import atomic, tables
from launch.group_rows import groups_to_table, table_to_groups
from launch.run_dir import RunDir
from rewards.errors import RunStopped, UserError
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
from rollouts.types import Group, Rollout, Turn, VersionSpan

NOON = datetime(2026, 1, 2, 12, 0, 0)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, "demo", {"name": "demo", "seed": 7}, seed=7, command=["podium", "train"], now=NOON)


def rollout(key: GroupKey, index: int, logprobs: list[float], text: str = "an answer") -> Rollout:
    n = len(logprobs)
    return Rollout(
        key=key,
        index=index,
        seed=2**62 + index,
        token_ids=np.arange(n, dtype=np.int32),
        logprobs=np.asarray(logprobs, dtype=np.float32),
        loss_mask=np.arange(n) % 2 == 0,
        text=text,
        finish_reason="length",
        versions=(VersionSpan(3, 0, 1), VersionSpan(4, 1, n)),
        turns=(Turn("assistant", 0, 1), Turn("tool", 1, n)),
        parsed=ParsedAnswer(
            fields={"ids": [3, 1]},
            parts={"plan": "p\u00e4th"},
            spans=(TextSpan(0, "slate", 0, 9),),
            segments=(Segment(0, "slate", 0, n),),
            malformed="no list",
        ),
    )


def group(logprobs: list[list[float] | None], group_id: str = "s1/g0", text: str = "an answer") -> Group:
    key = GroupKey(group_id, 1)
    return Group(
        key=key,
        prompt=Prompt(
            "p0", "Write.", ({"role": "user", "content": "Write."},), {"text": "news", "topic": "\u201cx\u201d"}
        ),
        prompt_token_ids=np.asarray([1, 2, 3], dtype=np.int32),
        rollouts=tuple(None if row is None else rollout(key, i, row, text) for i, row in enumerate(logprobs)),
    )


AUDIT = Audit("hard", (Match(Pairing(0, 1, 2), (Call(0, 1, Verdict(0.5, reason="level"), "second"),)),), 3)


def score(rewards: list[float | None]) -> GroupScore:
    calls = (
        Call(0, 1, Verdict(0.1 + 0.2, reason="closer", latency_s=0.25, tokens_in=9, tokens_out=1, cost=1e-7), "minilm"),
        Call(1, 0, Verdict(None, failure="timeout", attempts=4), "minilm"),
    )
    return GroupScore(
        rewards=rewards,
        reliability=1 / 3,
        segment_rewards={"slate": list(rewards)},
        baseline_ids=[0] * len(rewards),
        matches=(Match(Pairing(0, 1, 2), calls),),
        kind="score",
        strengths=list(rewards),
        stderrs=[None if reward is None else 0.5 for reward in rewards],
        per_criterion={"clarity": list(rewards)},
        figures={"recall@5": list(rewards)},
        gate_failures={"length": (1,)},
        num_calls=2,
        num_failed=1,
        failures={"timeout": 1},
        rankings=(
            Ranking(Slate((0, 1), 1), (1, 0), (0, 0), "minilm", reason="level", latency_s=0.1 + 0.2, tokens_in=3),
            Ranking(Slate((0, 1), 1), (0, 1), None, "minilm", "timeout", attempts=4),
        ),
        audit=AUDIT if len(rewards) > 1 else None,
        known_answers=(KnownAnswer("minilm", 1.0), KnownAnswer("minilm", None)),
    )


def assert_same_group(left: Group, right: Group) -> None:
    assert (left.key, left.prompt, len(left.rollouts)) == (right.key, right.prompt, len(right.rollouts))
    assert left.prompt_token_ids.dtype == right.prompt_token_ids.dtype == np.int32
    assert left.prompt_token_ids.tobytes() == right.prompt_token_ids.tobytes()
    for one, other in zip(left.rollouts, right.rollouts, strict=True):
        assert (one is None) == (other is None)
        if one is None or other is None:
            continue
        for name in ("token_ids", "logprobs", "loss_mask"):
            before, after = getattr(one, name), getattr(other, name)
            assert before.dtype == after.dtype
            assert before.tobytes() == after.tobytes()
        for name in ("key", "index", "seed", "text", "finish_reason", "versions", "turns", "parsed"):
            assert getattr(one, name) == getattr(other, name)


def test_what_a_second_judge_said_has_a_table_of_its_own(run: RunDir) -> None:
    groups = [group([[-0.1], None, [-0.2]])]
    run.save_groups(1, groups, [replace(score([0.1, None, 1 / 3]), audit=None)])
    assert run.steps("audits") == []
    run.save_groups(2, groups, [score([0.1, None, 1 / 3])])
    (row,) = run.load_audits(2)
    assert (row["judge"], row["a"], row["b"], row["value"], row["kind"]) == ("second", 0, 1, 0.5, "hard")
    assert (row["first_text"], row["second_text"]) == ("an answer", None)
    assert run.num_training_calls() == 0
    assert run.num_training_calls("audits") == 1


def test_groups_and_scores_come_back_bit_for_bit(run: RunDir) -> None:
    groups = [group([[-0.1, float("-inf"), 0.0], None, [-1e-30]]), group([[-2.5], []], "s1/g1", text="")]
    scores = [score([0.1, None, 1 / 3]), score([None, None])]
    run.save_groups(12, groups, scores)
    assert (run.path / "groups" / "step_000012.parquet").exists()
    assert run.has_groups(12)
    assert not run.has_groups(13)
    loaded, loaded_scores = run.load_groups(12)
    assert loaded_scores == scores
    for saved, read in zip(groups, loaded, strict=True):
        assert_same_group(saved, read)


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=5), min_size=1, max_size=4),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.data(),
)
@settings(max_examples=50)
def test_any_group_comes_back(logprobs: list[list[float]], text: str, data: st.DataObject) -> None:
    rewards = data.draw(
        st.lists(st.none() | st.floats(allow_nan=False), min_size=len(logprobs), max_size=len(logprobs))
    )
    saved, saved_score = group(list(logprobs), text=text), score(rewards)
    (read,), (read_score,) = table_to_groups(groups_to_table([saved], [saved_score]))
    assert_same_group(saved, read)
    assert read_score == saved_score


def test_a_score_for_another_group_size_is_a_bug(run: RunDir) -> None:
    with pytest.raises(ValueError, match="2 rewards for 1 slots"):
        run.save_groups(1, [group([[-1.0]])], [score([0.5, 0.5])])


def test_create_stores_recipe_and_provenance_and_never_reuses_a_folder(run: RunDir) -> None:
    assert run.path.name == "demo-20260102-120000"
    assert run.recipe() == {"name": "demo", "seed": 7}
    origin = run.provenance()
    assert origin["seed"] == 7
    assert origin["command"] == ["podium", "train"]
    assert origin["packages"]["numpy"] == np.__version__
    assert origin["git"] is None or set(origin["git"]) == {"commit", "dirty"}
    second = RunDir.create(run.path.parent, "demo", {}, seed=7, now=NOON)
    assert second.path.name == "demo-20260102-120000-2"


def test_a_resume_is_written_down_with_its_recipe_and_the_ones_before_are_kept(run: RunDir) -> None:
    first = run.recipe()
    run.record_resume(first | {"seed": 7}, after_step=2, command=["podium", "again"], now=NOON)
    assert run.recipes() == [first]
    for seed in (8, 9, 9):
        run.record_resume(
            first | {"seed": seed, "pair": (1, 2)}, after_step=seed, command=["podium", str(seed)], now=NOON
        )
    assert run.recipe() == first | {"seed": 9, "pair": [1, 2]}
    assert [recipe["seed"] for recipe in run.recipes()] == [7, 8, 9]
    origin = run.provenance()
    assert (origin["command"], origin["resumed"][0]) == (
        ["podium", "train"],
        {"started": "2026-01-02T12:00:00", "command": ["podium", "again"], "after_step": 2},
    )
    assert [resume["after_step"] for resume in origin["resumed"]] == [2, 8, 9, 9]


def test_storage_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert RunDir.create("~/runs", "demo", {}, seed=0).path.parent == tmp_path / "runs"
    assert not (tmp_path / "~").exists()


def test_storage_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"launch\.storage: cannot make a run directory"):
        RunDir.create(tmp_path / "file", "demo", {}, seed=0)


def test_open_wants_a_run(tmp_path: Path, run: RunDir) -> None:
    assert RunDir.open(run.path).path == run.path
    with pytest.raises(UserError, match="is not a run directory"):
        RunDir.open(tmp_path)


def test_resume_drops_later_rows_and_steps_never_repeat(run: RunDir) -> None:
    for step in range(1, 6):
        run.append_metrics(step, {"rl/loss": 0.1 * step})
    run.drop_metrics_after(3)
    run.append_metrics(4, {"rl/loss": 9.0})
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]
    assert run.metrics()[2]["rl/loss"] == 0.1 * 3
    assert run.metrics()[3]["rl/loss"] == 9.0


@pytest.mark.parametrize("torn", ['{"step": 2, "rl/lo', "x" * 200_000])
def test_a_row_cut_short_by_a_kill_is_forgotten(run: RunDir, torn: str) -> None:
    run.append_metrics(1, {})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    assert [row["step"] for row in run.metrics()] == [1]
    run.append_metrics(2, {})
    assert [row["step"] for row in run.metrics()] == [1, 2]


def test_damage_inside_the_metrics_names_the_line(run: RunDir) -> None:
    (run.path / "metrics.jsonl").write_text('{"step": 1}\noops\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a JSON row"):
        run.metrics()


def test_missing_and_damaged_tables_name_file_and_cure(run: RunDir) -> None:
    with pytest.raises(UserError, match=r"step_000003\.parquet is missing; go on with --resume"):
        run.load_groups(3)
    run.save_groups(3, [group([[-1.0]])], [score([0.5])])
    path = run.path / "groups" / "step_000003.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step_000003\.parquet is damaged .*delete the file"):
        run.load_groups(3)
    run.save_matches(3, [{"judge": "minilm"}])
    (run.path / "matches" / "step_000003.parquet").rename(path)
    with pytest.raises(UserError, match="not those of saved groups"):
        run.load_groups(3)
    (run.path / "recipe.json").write_text("{")
    with pytest.raises(UserError, match=r"recipe\.json is damaged"):
        run.recipe()


def test_matches_and_evaluation_are_plain_rows(run: RunDir) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "a", "outcome": 1.0}, {"prompt": "b", "outcome": None}]
    run.save_matches(1, rows)
    run.save_evaluation(5, rows)
    run.save_evaluation(10, [])
    assert run.load_matches(1) == rows
    assert run.load_evaluation(5) == rows
    assert run.load_evaluation(10) == []
    assert run.steps("evaluation") == [5, 10]


def test_the_aggregators_prior_is_kept_with_the_groups(run: RunDir) -> None:
    prior = {"weights": [0.1 + 0.2, 1e-300], "steps": 3}
    run.save_groups(1, [group([[-1.0]])], [score([0.5])], prior=prior)
    run.save_groups(2, [group([[-1.0]])], [score([0.5])])
    assert run.load_prior(1) == prior
    assert run.load_prior(2) is None


def test_the_starting_models_answers_are_kept(run: RunDir) -> None:
    assert run.load_start_answers() is None
    saved = group([[-1.0, -0.5], None])
    run.save_start_answers([saved])
    read = RunDir.open(run.path).load_start_answers()
    assert read is not None
    assert_same_group(saved, read[0])
    assert run.steps("evaluation") == []


def test_checkpoints_count_only_when_complete_and_old_ones_go(run: RunDir) -> None:
    assert run.latest_checkpoint() is None
    for step in (2, 10, 9):
        run.checkpoint_path(step).mkdir()
    (run.path / "checkpoints" / "step_11.tmp").mkdir()
    assert run.checkpoints() == [2, 9, 10]
    assert run.latest_checkpoint() == 10
    assert run.prune_checkpoints(keep=2) == [2]
    assert run.checkpoints() == [9, 10]
    assert run.prune_checkpoints(keep=2) == []
    assert run.prune_checkpoints(keep=1, spared=[9]) == []
    assert run.prune_checkpoints(keep=1, spared=[3]) == [9]


def test_what_a_killed_run_left_of_checkpoints_is_swept(run: RunDir) -> None:
    folder = run.path / "checkpoints"
    for name in (".step_5.deleted", "step_7.tmp", "step_8", "step_9.mine"):
        (folder / name / "hf").mkdir(parents=True)
    run.sweep_checkpoints()
    assert sorted(path.name for path in folder.iterdir()) == ["step_8", "step_9.mine"]


def test_the_judges_cache_is_named_where_there_is_one(run: RunDir) -> None:
    assert run.judge_cache() is None
    (run.path / "judge_cache.sqlite").touch()
    assert run.judge_cache() == "judge_cache.sqlite"


def test_the_summary_appears_at_the_end(run: RunDir) -> None:
    assert run.summary() is None
    run.save_summary({"steps": 3})
    assert RunDir.open(run.path).summary() == {"steps": 3}


def test_two_drivers_never_write_the_same_run(run: RunDir) -> None:
    with (
        run.lock(),
        pytest.raises(UserError, match=rf"being written by process {os.getpid()} on "),
        RunDir.open(run.path).lock(),
    ):
        pass
    with run.lock():
        pass


def test_the_lock_of_a_killed_driver_is_free(run: RunDir) -> None:
    code = (
        "import sys, time; from launch.run_dir import RunDir\n"
        "with RunDir.open(sys.argv[1]).lock():\n print('held', flush=True); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {driver.pid}"), run.lock():
        pass
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    with run.lock():
        pass


def test_a_full_disk_stops_the_run_and_keeps_the_old_file(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_summary({"steps": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(RunStopped, match=r"disk full while writing .*summary\.json: free some space"):
        run.save_summary({"steps": 2})
    with pytest.raises(RunStopped, match="disk full"):
        run.append_metrics(1, {})
    monkeypatch.undo()
    assert run.summary() == {"steps": 1}
    assert [path.name for path in run.path.iterdir() if path.name.endswith(".tmp")] == []


def test_a_write_that_fails_midway_leaves_no_row(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run.append_metrics(1, {})
    whole_write = os.pwrite
    monkeypatch.setattr(atomic.os, "pwrite", lambda descriptor, data, at: whole_write(descriptor, data[:4], at))
    with pytest.raises(RunStopped, match="disk full"):
        run.append_metrics(2, {"rl/loss": 1.0})
    monkeypatch.undo()
    assert (run.path / "metrics.jsonl").read_text() == json.dumps({"step": 1}) + "\n"


def test_numbers_that_are_no_json_stay_readable(run: RunDir) -> None:
    run.append_metrics(1, {"rl/loss": float("nan")})
    assert np.isnan(run.metrics()[0]["rl/loss"])


def test_rejected_groups_are_none_and_can_still_be_read(run: RunDir) -> None:
    saved = group([[-1.0]])
    run.save_groups(1, [saved], [score([0.1])])
    for again in (False, True):
        kept_as = run.reject_groups(1)
        assert kept_as == "groups/step_000001.rejected.parquet"
        assert not run.has_groups(1)
        assert run.steps("groups") == []
        (read,), _ = table_to_groups(tables.read(run.path / kept_as))
        assert read.key == saved.key
        if not again:
            run.save_groups(1, [saved], [score([0.1])])


def test_replacing_groups_replaces_the_whole_file(run: RunDir) -> None:
    first = group([[-1.0]])
    run.save_groups(1, [first], [score([0.1])])
    run.save_groups(1, [replace(first, key=GroupKey("other"))], [score([0.2])])
    (read,), (read_score,) = run.load_groups(1)
    assert read.key == GroupKey("other")
    assert read_score.rewards == [0.2]


def test_match_rows_of_pairs_and_rankings_survive_the_table(run: RunDir) -> None:
    scored = score([0.5, 0.25])
    rows = match_rows(GroupKey("g"), Prompt("p", "Write."), ["one", "two"], scored)
    run.save_matches(1, rows)
    assert run.load_matches(1) == rows
    assert [row["places"] for row in rows] == [None, None, [0, 0], None]
    assert [row["value"] for row in rows][2:] == [None, None]


def test_scores_saved_before_there_were_rankings_still_load(run: RunDir) -> None:
    scored = replace(score([0.5]), rankings=())
    table = groups_to_table([group([[-1.0]])], [scored])
    old = [None if text is None else text.replace(', "rankings": []', "") for text in table["score"].to_pylist()]
    assert old != table["score"].to_pylist()
    table = table.set_column(table.schema.get_field_index("score"), "score", pa.array(old))
    assert table_to_groups(table)[1] == [scored]
