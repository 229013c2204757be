"""Thirty steps under every fault that `--chaos` knows, and a broken wandb on top."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

import psutil
import pytest

from launch import chaos, tables
from launch.chaos import parse_chaos
from tests.e2e.whole_runs import (
    RECIPE,
    environment,
    left_in_shared_memory,
    only_run,
    podium,
    settings,
    shared_memory,
    wait_until_gone,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

STEPS = 30
FAULTS = (
    "kill=engine:0.03,hang=engine:0.03,kill=learner:0.03,kill=driver:0.03,judge=error:0.15,judge=rate_limit:0.05,"
    "judge=connection:0.05,judge=garbage:0.03,judge=empty:0.03,judge=timeout:0.03,judge=slow:0.05"
)
SEED = 94114
"""One of each: an engine dies at step 3, a rank at 17, the driver at 23, and an engine hangs at 30, as it begins."""


def test_a_run_under_faults_loses_nothing_and_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    assert set(parse_chaos(FAULTS, seed=SEED).probabilities) == set(chaos.FAULTS)
    before, mark = shared_memory(), uuid.uuid4().hex
    more = [
        f"rl.num_steps={STEPS}",
        "rl.checkpoint.every=5",
        "rewards.calls.timeout_s=0.3",
        "rewards.calls.backoff_s=0.05",
        "launch.watchdog={action: retry, phases: {sample: 5}}",
    ]
    faults = ["--chaos", FAULTS, "--chaos-seed", str(SEED)]
    command = podium("train", str(RECIPE), *settings(tiny_model, tmp_path, *more), *faults)
    logs: list[str] = []
    codes: list[int] = []
    while True:
        log = tmp_path / f"log{len(logs)}.txt"
        code, growth = one_process(command, log, mark, tmp_path, kill_wandb=not codes)
        logs.append(log.read_text())
        codes.append(code)
        assert growth <= 25, (codes, growth)
        assert wait_until_gone(mark) == [], codes
        run = only_run(tmp_path)
        if code == 0 or len(codes) == 4:
            break
        command = podium("train", "--resume", str(run.path), "--set", "tracking.wandb.mode=disabled", *faults)
    assert left_in_shared_memory(before) == set()
    assert codes == [1, -signal.SIGKILL, 0], [log[-2000:] for log in logs]

    struck = [json.loads(line) for line in (run.path / "chaos.jsonl").read_text().splitlines()]
    assert [(one["step"], one["fault"]) for one in struck] == [
        (3, "kill=engine"),
        (17, "kill=learner"),
        (23, "kill=driver"),
        (30, "hang=engine"),
    ]
    assert re.search(r"learner rank 0 died .*; resume from the last checkpoint", logs[0])
    assert logs[0].count("wandb failed") == 1
    assert [log.count("died and is replaced") for log in logs] == [1, 0, 1]
    assert re.search(r"step 30, phase sample: no sign of life for \d+ s, waiting for rollout step30-\d#0/\d", logs[2])
    assert [folder.name for folder in (run.path / "stacks").iterdir()] == ["step_30-sample-1"]
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    state = json.loads((run.checkpoint_path(STEPS) / "state.json").read_text())
    assert state["num_steps_done"] == STEPS - sum(row["rl/skipped"] for row in rows)
    failed = sum(row["judge/num_calls"] * row["judge/failure_rate"] for row in rows)
    assert failed > 0.05 * sum(row["judge/num_calls"] for row in rows)
    slots = []
    for step in range(1, STEPS + 1):
        groups, scores = run.load_groups(step)
        assert len(groups) == len(scores) == 2
        slots += [(group.key, rollout.index) for group in groups for rollout in group.rollouts if rollout is not None]
    assert len(slots) == len(set(slots)) == STEPS * 2 * 4
    calls = [row for step in range(1, STEPS + 1) for row in run.load_matches(step)]
    assert all((row["value"] is None) == (row["failure"] is not None) for row in calls)
    causes = {row["failure"] for row in calls}
    assert {None, "bad_reply", "empty"} <= causes <= {None, "bad_reply", "empty", "timeout", *RETRIED}
    assert json.loads((run.path / "summary.json").read_text())["steps"] == STEPS
    assert tables.num_rows(run.path / "evaluation" / f"step_{STEPS:06d}.parquet") > 0


RETRIED = ("server_error", "rate_limit", "connection")


def one_process(command: list[str], log: Path, mark: str, storage: Path, *, kill_wandb: bool) -> tuple[int, int]:
    """Runs it; returns its exit code and how many more files it had open late than early.

    Args:
        kill_wandb: wandb's service process dies after a few steps.
    """
    with log.open("w") as out:
        driver = subprocess.Popen(
            command, env=environment() | {"PODIUM_TEST_MARK": mark}, stdout=out, stderr=subprocess.STDOUT
        )
        counts: list[tuple[int, int]] = []
        while driver.poll() is None:
            counts.append((num_steps_done(storage), num_open_files(driver.pid)))
            if kill_wandb and counts[-1][0] >= 4:
                kill_wandb = False
                kill_child(driver.pid, "wandb-core")
            time.sleep(0.25)
    first, last = counts[0][0], counts[-1][0]
    early = [count for step, count in counts if first + 3 <= step <= first + 6]
    late = [count for step, count in counts if step >= last - 2 and count > 0]
    return driver.returncode, max(late, default=0) - max(early, default=max(late, default=0))


def kill_child(pid: int, name: str) -> None:
    for child in psutil.Process(pid).children(recursive=True):
        if child.name() == name:
            child.kill()
            return
    raise AssertionError(f"no process {name}")


def num_steps_done(storage: Path) -> int:
    files = list(storage.glob("*/metrics.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def num_open_files(pid: int) -> int:
    try:
        return psutil.Process(pid).num_fds()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
