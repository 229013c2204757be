"""Whole runs as a user starts them: `podium train` in a process of its own, everything real, on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch import tables
from launch.run_dir import RunDir

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RECIPE = Path(__file__).parent / "data" / "tiny.yaml"
ROOT = Path(__file__).parents[2]


def podium(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "launch.cli", *arguments]


def settings(model: Path, storage: Path, *more: str) -> list[str]:
    values = [f"model.path={model}", f"launch.storage={storage}", *more]
    return [word for value in values for word in ("--set", value)]


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return env | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def our_processes(run_mark: str) -> list[str]:
    """Processes that carry this run's mark in their environment: everything that the run started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PODIUM_TEST_MARK") == run_mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


def wait_until_gone(run_mark: str, seconds: float = 30.0) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := our_processes(run_mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Three steps with two engines and two learner ranks; fails if anything is left behind."""
    storage = tmp_path_factory.mktemp("runs")
    before = shared_memory()
    done = subprocess.run(
        podium("train", str(RECIPE), *settings(tiny_model, storage, "rollouts.engines=2", "rl.learner.ranks=2")),
        env=environment() | {"PODIUM_TEST_MARK": "loop"},
        cwd=storage,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert wait_until_gone("loop") == []
    assert shared_memory() - before == set()
    (path,) = storage.iterdir()
    return RunDir.open(path)


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
    (training,), (heldout,) = (summary["judges"][purpose].values() for purpose in ("training", "heldout"))
    assert training["num_calls"] == 3 * 2 * 6 * 2
    assert training["num_calls"] + heldout["num_calls"] == summary["judge_calls"]
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
    assert again["num_calls"] == again["num_cached"] == training["num_calls"]
    assert again["flip_rate"]["value"] == 0.0
    assert again["kendall_tau"]["value"] == 1.0


def test_wandb_wrote_offline(run: RunDir) -> None:
    assert list((run.path / "wandb").glob("**/*.wandb"))


@pytest.fixture(scope="module")
def exported(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "model"
    done = subprocess.run(
        podium("export", str(run.path), "--step", "3", str(out)),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_weights_moved_and_transformers_loads_the_export(exported: Path, tiny_model: Path) -> None:
    start = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).state_dict()
    trained = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32).state_dict()
    assert start.keys() == trained.keys()
    moved = {name for name in start if not torch.equal(start[name], trained[name])}
    assert moved == set(start)
    assert AutoTokenizer.from_pretrained(exported).chat_template


def test_a_run_that_was_stopped_goes_on_where_it_was(exported: Path, tmp_path: Path) -> None:
    """SIGTERM after the first step, then --resume: no step twice, none missing, and nothing left behind.

    The run starts from an exported model, which vLLM and the learner load like any other.
    """
    storage = tmp_path / "runs"
    env = environment() | {"PODIUM_TEST_MARK": "resume"}
    first = subprocess.Popen(
        podium("train", str(RECIPE), *settings(exported, storage)),
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(storage.glob("*/checkpoints/step_1")):
        assert first.poll() is None, first.stderr.read() if first.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.2)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=120) != 0
    assert wait_until_gone("resume") == []
    (path,) = storage.iterdir()
    started = RunDir.open(path)
    done_before = len(started.metrics())

    second = subprocess.run(
        podium("train", "--resume", str(path)), env=env, capture_output=True, text=True, timeout=500
    )
    assert second.returncode == 0, second.stderr[-4000:]
    assert done_before < 3
    assert [row["step"] for row in started.metrics()] == [1, 2, 3]
    summary = started.summary()
    assert summary is not None
    assert json.loads((path / "summary.json").read_text())["steps"] == 3
    assert wait_until_gone("resume") == []


def test_checkpoints_and_the_starting_model_meet_on_a_ladder(run: RunDir) -> None:
    done = subprocess.run(
        podium("eval", str(run.path), "--step", "3", "--set", "rollouts.engines=1", "--json"),
        env=environment() | {"PODIUM_TEST_MARK": "eval"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout)
    start, last = result["players"]
    assert (start["name"], start["strength"], last["name"], result["best_step"]) == ("start", 0.0, "step 3", 3)
    assert last["ci95"][0] <= last["strength"] <= last["ci95"][1]
    assert 0.0 <= result["best_against_start"]["length_controlled_win_rate"] <= 1.0
    assert result["num_prompts"] == 4
    assert json.loads((run.path / "ladder.json").read_text()) == result
    assert tables.read(run.path / "evaluation" / "ladder.parquet").num_rows == 4
    assert wait_until_gone("eval") == []

    refused = subprocess.run(
        podium("eval", str(run.path), "--step", "9"), env=environment(), capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2
    assert "--step 9: " in refused.stderr
