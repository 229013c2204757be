from __future__ import annotations

from pathlib import Path

import pytest

from rewards.errors import UserError
from rl.start_model import start_directory


def make_checkpoint(folder: Path) -> Path:
    (folder / "hf").mkdir(parents=True)
    (folder / "hf" / "config.json").write_text("{}")
    return folder


def test_a_run_gives_its_last_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (2, 10):
        make_checkpoint(run / "checkpoints" / f"step_{step}")
    (run / "checkpoints" / "step_11.tmp").mkdir()
    (run / "recipe.json").write_text("{}")
    last = run / "checkpoints" / "step_10"
    assert start_directory(run) == start_directory(last) == start_directory(last / "hf") == last / "hf"


def test_what_holds_no_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rl\.init_from: .*/gone: no such directory"):
        start_directory(tmp_path / "gone")
    with pytest.raises(UserError, match="is no run, no checkpoint and no model directory"):
        start_directory(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(UserError, match="has no checkpoint yet"):
        start_directory(tmp_path)
