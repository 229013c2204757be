"""Runs that come to every bad end, then --resume: their weights are those of an undisturbed run, bit for bit."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from launch.run_dir import RunDir
from tests.e2e.conftest import Job, Stage
from tests.e2e.on_stage import lend
from tests.e2e.whole_runs import RECIPE, only_run, settings, start, tokens_of, weights_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

HANG_SEED = 139
"""--chaos-seed under which step 3 has hardly begun to sample when its engine's worker is stopped."""


def test_whatever_ends_a_run_it_goes_on_as_if_nothing_had_happened(
    job: Job, stage: Stage, exported: Path, tmp_path: Path
) -> None:
    """One rank. Each process but the last dies or stops; the last one's engine hangs and is replaced on the way.

    The one whose judge is down runs on the session's engine.

    The undisturbed run is another process on this machine: that the two agree in every rollout and every weight says
    that equal seeds, requests and weights give equal rollouts here, and so does a step that is sampled again.
    """
    options = ["tracking.wandb.mode=disabled", "rewards.calls.down_after_s=2", "rewards.calls.backoff_s=0.05"]
    start(["train", str(RECIPE), *settings(exported, tmp_path, *options)], kill=("judge", 2))
    run = only_run(tmp_path)
    assert (run.checkpoints(), run.steps("groups")) == ([1], [1])
    assert phase_of(run) == (2, "judge")
    resume = ["train", "--resume", str(run.path)]
    start(resume, kill=("learn", 2))
    assert (run.checkpoints(), run.steps("groups")) == ([1], [1, 2])
    start(resume, kill=("checkpoint", 2))
    assert run.checkpoints() == [1]
    assert phase_of(run) == (2, "save")

    with lend(stage.pool.handles) as lent:
        stopped = start(resume, kill=("down", 3), code=1, lent=lent)
    assert "Traceback" not in stopped.stderr
    line = stopped.stderr.strip().splitlines()[-1]
    assert re.match(r"judge python:.* is down: no reply to \d+ attempts in a row, .*\(last: connection.*--resume", line)
    assert run.checkpoints() == run.steps("groups") == run.steps("matches") == [1, 2]  # nothing was invented
    assert [row["step"] for row in run.metrics()] == [1, 2]

    watched = ["--set", "launch.watchdog={action: retry, phases: {sample: 6}}"]
    done = start([*resume, *watched, "--chaos", "hang=engine:1", "--chaos-seed", str(HANG_SEED)])
    said = done.stdout + done.stderr
    assert re.search("chaos: step 3: stopping engine0-worker-", said)
    assert re.search(
        r"step 3, phase sample: no sign of life for \d+ s, waiting for rollout step3-\d#0/\d.*; "
        "engines are killed and replaced, stacks are in",
        said,
    )
    assert said.count("died and is replaced") == 1
    (folder,) = (run.path / "stacks").iterdir()
    assert "_sample_rollout" in (folder / "driver.txt").read_text()
    stacks = {file.name: file.read_text() for file in folder.glob("*.txt")}
    for who in ("engine0-actor", "engine0-core", "engine0-worker", "rank0"):
        assert [text for name, text in stacks.items() if name.startswith(who) and "Thread" in text], (who, stacks)

    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    for step in (1, 2, 3):
        assert tokens_of(run, step) == tokens_of(job.run, step)
    assert weights_of(run, 3) == weights_of(job.run, 3)
    assert phase_of(run) == (3, "done")
    summary, undisturbed = run.summary(), job.run.summary()
    assert summary is not None
    assert undisturbed is not None
    assert summary["heldout"] == undisturbed["heldout"]


def phase_of(run: RunDir) -> tuple[int, str]:
    now = json.loads((run.path / "phase.json").read_text())
    return now["step"], now["phase"]


def test_two_ranks_go_on_too_and_sigterm_saves_the_step_that_is_learned(
    run: RunDir, stage: Stage, tmp_path: Path
) -> None:
    """Given the same persisted groups: killed while learning, then ended by SIGTERM in a step whose save is not due.

    The second process runs on the session's engine.
    """
    shutil.copytree(run.path, tmp_path / "run")
    copy = RunDir.open(tmp_path / "run")
    for step in (2, 3):
        shutil.rmtree(copy.checkpoint_path(step))
    (copy.path / "summary.json").unlink()
    one = ["rollouts.engines=1", "tracking.wandb.mode=disabled"]
    resume = ["train", "--resume", str(copy.path), *(word for setting in one for word in ("--set", setting))]
    start(resume, kill=("learn", 2))
    assert copy.checkpoints() == [1]
    (copy.path / "checkpoints" / "step_2.tmp").mkdir()  # as a run leaves it that is killed while it saves

    longer = ["--set", "rl.num_steps=9", "--set", "rl.checkpoint.every=100"]
    with lend(stage.pool.handles) as lent:
        done = start([*resume, *longer], kill=("term", 3), code=128 + signal.SIGTERM, lent=lent)
    assert "ended by a signal; go on with podium train --resume" in done.stderr
    assert (copy.recipe()["rl"]["num_steps"], copy.recipes()[0]["rl"]["num_steps"]) == (9, 3)  # goes on with these
    first, second = copy.provenance()["resumed"]
    assert (first["after_step"], second["after_step"], second["command"][-1]) == (1, 1, "rl.checkpoint.every=100")
    assert [row["step"] for row in copy.metrics()] == [1, 2, 3]
    assert copy.metrics()[1]["judge/num_audited"] == 6.0
    for one, other in zip(copy.metrics(), run.metrics(), strict=True):  # what is learned again is not asked again
        health = {name for name in other if name.startswith(("judge/audit", "judge/calibration"))}
        assert {name: one[name] for name in health} == {name: other[name] for name in health}
    assert {path.name for path in (copy.path / "checkpoints").iterdir()} == {"step_1", "step_3"}
    assert weights_of(copy, 3) == weights_of(run, 3)
    mine, its = (json.loads((one.checkpoint_path(3) / "state.json").read_text()) for one in (copy, run))
    assert (mine["num_steps_done"], mine["extra"]["prior"]) == (its["num_steps_done"], its["extra"]["prior"])
