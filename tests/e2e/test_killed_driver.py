"""kill -9 of the driver, then --resume: the final weights are those of a run that nobody disturbed, bit for bit."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.run_dir import RunDir
from tests.e2e.test_loop import RECIPE, environment, podium, settings, shared_memory, wait_until_gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def start(arguments: list[str], *, mark: str, kill: tuple[str, int] | None = None) -> None:
    """Run podium to its end, or to its death at a place and a step; nothing of it is left."""
    before = shared_memory()
    command = podium(*arguments)
    if kill is not None:
        command = [sys.executable, "-m", "tests.e2e.killer", kill[0], str(kill[1]), *arguments]
    done = subprocess.run(
        command, env=environment() | {"PODIUM_TEST_MARK": mark}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == (0 if kill is None else -signal.SIGKILL), done.stderr[-4000:]
    assert wait_until_gone(mark) == []
    assert shared_memory() - before == set()


def weights_of(run: RunDir, step: int) -> dict[str, str]:
    """Hash of every file of a checkpoint that holds weights or optimizer state."""
    folder = run.checkpoint_path(step)
    files = sorted([*folder.glob("hf/*.safetensors"), *folder.glob("deepspeed/**/*optim_states.pt")])
    assert len(files) >= 2
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def the_run(storage: Path) -> RunDir:
    (path,) = storage.iterdir()
    return RunDir.open(path)


@pytest.mark.parametrize(
    ("ranks", "kills"),
    [(1, [("judge", 2), ("learn", 2), ("checkpoint", 2)]), (2, [("learn", 2)])],
    ids=["one rank", "two ranks"],
)
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    tiny_model: Path, tmp_path: Path, ranks: int, kills: list[tuple[str, int]]
) -> None:
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    options = [f"rl.learner.ranks={ranks}", "tracking.wandb.mode=disabled"]
    start(["train", str(RECIPE), *settings(tiny_model, quiet, *options)], mark=f"quiet{ranks}")
    undisturbed = the_run(quiet)

    first, *others = kills
    start(["train", str(RECIPE), *settings(tiny_model, killed, *options)], mark=f"killed{ranks}", kill=first)
    run = the_run(killed)
    for kill in others:
        start(["train", "--resume", str(run.path)], mark=f"killed{ranks}", kill=kill)
        assert run.checkpoints() == [1]
    start(["train", "--resume", str(run.path)], mark=f"killed{ranks}")

    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    for step in (1, 2, 3):
        sampled, as_undisturbed = (
            [
                [rollout and rollout.token_ids.tolist() for rollout in group.rollouts]
                for group in one.load_groups(step)[0]
            ]
            for one in (run, undisturbed)
        )
        assert sampled == as_undisturbed  # equal seeds, equal requests, equal weights: on a CPU, equal rollouts
    assert weights_of(run, 3) == weights_of(undisturbed, 3)
