"""What an undisturbed run leaves: two engines, two learner ranks, three steps."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.run_dir import RunDir
from tests.e2e.whole_runs import environment, podium

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_every_step_is_on_disk(run: RunDir) -> None:
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.steps("groups") == run.steps("matches") == [1, 2, 3]
    assert run.checkpoints() == [1, 2, 3]
    for row in run.metrics():
        assert row["sync/logprob_gap"] < 1e-4
        assert row["rl/skipped"] == 0.0
        assert row["judge/num_calls"] == 2 * 6 * 2
        assert row["time/step_s"] > 0


def test_versions_advance_with_the_steps(run: RunDir) -> None:
    for step in (1, 2, 3):
        groups, _ = run.load_groups(step)
        versions = {span.version for g in groups for r in g.rollouts if r is not None for span in r.versions}
        assert versions == {step - 1}


def test_the_summary_says_what_happened(run: RunDir) -> None:
    summary = run.summary()
    assert summary is not None
    assert summary["steps"] == 3
    assert summary["heldout"]["num_prompts"] == 4
    assert summary["heldout"]["opponent"] == "starting model"
    low, high = summary["heldout"]["ci95"]
    assert 0.0 <= low <= summary["heldout"]["win_rate"] <= high <= 1.0
    assert summary["judge_calls"] > 0
    assert {"sample", "learn", "sync", "evaluate", "save"} <= set(summary["seconds_by_phase"])
    assert (run.path / "report.html").stat().st_size > 1000
    assert (run.path / summary["final_checkpoint"]).is_dir()


def test_the_ledger_counts_every_call_and_the_cache_keeps_its_verdict(run: RunDir) -> None:
    summary = run.summary()
    assert summary is not None
    purposes = ("training", "heldout", "training_audit", "audit")
    (training,), (heldout,), (watched,), (audit,) = (summary["judges"][purpose].values() for purpose in purposes)
    assert training["num_calls"] == 3 * 2 * (6 * 2 + 1)  # and a known pair for each group
    assert watched["num_calls"] == 3 * 6 * 2
    in_all = sum(account["num_calls"] for account in (training, heldout, watched, audit))
    assert in_all == summary["judge_calls"]
    assert training["latency_p95_s"] >= training["latency_p50_s"] > 0.0
    assert sum(row["judge/num_cached"] for row in run.metrics()) == training["num_cached"]
    (kept,) = json.loads((run.path / "judge_ledger.json").read_text())["training"].values()
    assert kept["num_calls"] == training["num_calls"]
    done = subprocess.run(
        podium("rejudge", str(run.path), "--reward", str(run.path / "recipe.json"), "--json"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["num_calls"] == again["num_cached"] == 3 * 2 * 6 * 2
    assert again["calibration_accuracy"]["value"] == 1.0
    assert again["flip_rate"]["value"] == 0.0
    assert again["kendall_tau"]["value"] == 1.0


def test_a_second_judge_looked_over_half_of_the_pairs_and_entered_no_reward(run: RunDir) -> None:
    for row in run.metrics():
        said = run.load_audits(row["step"])
        assert {one["judge"] for one in said} == {"python:tests.e2e.judges:fewer_vowels"}
        assert (row["judge/num_audited"], row["judge/num_audit_calls"], len(said)) == (6.0, 12.0, 12)
        ties = sum(one["value"] == 0.5 for one in said) / 2
        assert row["judge/audit_agreement"] == ties / 6, "it agrees on ties only"
        assert row["judge/num_alarms"] == 1.0
        assert row["judge/calibration_accuracy"] == 1.0
        assert row["judge/num_calibrated"] == 2.0
        judges = {one["judge"] for one in run.load_matches(row["step"])}
        assert judges == {"python:tests.e2e.judges:more_vowels"}
    summary = run.summary()
    assert summary is not None
    assert summary["judge_health"]["judge/calibration_accuracy"]["num_steps"] == 3
    assert any("is under min_audit_agreement" in phrase for phrase in summary["judge_alarms"])
    assert "the second judge agrees" in (run.path / "report.html").read_text(encoding="utf-8")


def test_wandb_wrote_offline(run: RunDir) -> None:
    assert list((run.path / "wandb").glob("**/*.wandb"))


def test_weights_moved_and_transformers_loads_the_export(exported: Path, tiny_model: Path) -> None:
    start = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).state_dict()
    trained = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).state_dict()
    assert start.keys() == trained.keys()
    moved = {name for name in start if not torch.equal(start[name], trained[name])}
    assert moved == set(start)
    assert AutoTokenizer.from_pretrained(exported).chat_template
