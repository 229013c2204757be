"""A full disk: what is taken for one, and that a checkpoint which does not fit leaves nothing but one line."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards.errors import RunStopped
from rl import disk
from rl.disk import disk_full_stops, is_full
from rollouts.tiny import build_tiny_model
from tests.rl.learner_worker import run_ranks
from tests.rl.test_learner import make_config, make_learner, train


def raised_by(error: Exception, path: Path) -> BaseException:
    with pytest.raises(Exception) as caught, disk_full_stops(path):
        raise error
    return caught.value


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_an_error_that_names_it_is_told_in_one_line(code: int, tmp_path: Path) -> None:
    found = raised_by(OSError(code, os.strerror(code)), tmp_path / "file")
    assert isinstance(found, RunStopped)
    assert str(found) == f"disk full while writing {tmp_path / 'file'}: free some space, then go on with --resume"


def test_after_a_failure_without_a_reason_the_disk_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("basic_ios::clear: iostream error")
    monkeypatch.setattr(disk, "is_full", lambda folder: folder == tmp_path)
    assert isinstance(raised_by(error, tmp_path / "file"), RunStopped)
    assert raised_by(error, tmp_path / "other" / "file") is error


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), RunStopped("another reason"), ZeroDivisionError()])
def test_everything_else_passes_through(error: Exception, tmp_path: Path) -> None:
    assert raised_by(error, tmp_path / "not" / "there" / "file") is error
    assert not is_full(tmp_path / "not" / "there")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB: the tiny learner's checkpoint does not fit."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def save_twice(rank: int, world_size: int, port: int, model_dir: Path, small: Path, large: Path) -> dict[str, Any]:
    learner = make_learner(model_dir, rank, world_size, port, make_config(zero_stage=2))
    train(learner, 1)
    try:
        learner.save(small / "step_1", {"step": 1})
        message = "saved"
    except RunStopped as error:
        message = str(error)
    left = os.listdir(small)
    learner.save(large / "step_1", {"step": 1})  # the learner itself is unharmed
    return {"message": message, "left": left, "extra": learner.load(large / "step_1")}


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_stops_the_run_and_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    model_dir = build_tiny_model(tmp_path / "model", head_dim=16)
    (found,) = run_ranks(save_twice, model_dir, small_disk, tmp_path, folder=tmp_path)
    assert found["message"].startswith(f"disk full while writing {small_disk / 'step_1'}: free some space")
    assert found["left"] == []
    assert found["extra"] == {"step": 1}
