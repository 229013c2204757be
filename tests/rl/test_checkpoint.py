from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from rewards.errors import RunStopped, UserError
from rl import checkpoint


def write(path: Path, text: str = "weights") -> Path:
    partial = checkpoint.begin(path)
    (partial / checkpoint.MODEL).mkdir()
    (partial / checkpoint.MODEL / "model.safetensors").write_text(text)
    checkpoint.save_rng(partial / "rng", rank=0)
    checkpoint.commit(path, state={"num_steps_done": 3, "extra": {"a": 1}}, num_ranks=1, zero_stage=2)
    return path


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "step_3"
    partial = checkpoint.begin(path)
    (partial / "half").write_text("x")
    assert not path.exists()
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.verify(path)
    write(path)
    manifest = checkpoint.verify(path)
    assert sorted(manifest["files"]) == ["hf/model.safetensors", "rng/rank_0.pt", "state.json"]
    assert checkpoint.read_state(path) == {"num_steps_done": 3, "extra": {"a": 1}}
    assert [entry.name for entry in path.parent.iterdir()] == ["step_3"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    path = write(tmp_path / "step_3")
    write(path, "other")
    checkpoint.verify(path)
    assert (path / checkpoint.MODEL / "model.safetensors").read_text() == "other"
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_3"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "no_manifest"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "step_3")
    file = path / checkpoint.MODEL / "model.safetensors"
    if damage == "flip":
        file.write_text("Weights")
    elif damage == "cut":
        file.write_text("weight")
    elif damage == "remove":
        file.unlink()
    elif damage == "manifest":
        (path / checkpoint.MANIFEST).write_text("{")
    else:
        (path / checkpoint.MANIFEST).unlink()
    with pytest.raises(RunStopped, match=r"step_3 is damaged: .*delete this folder") as error:
        checkpoint.verify(path)
    assert "\n" not in str(error.value)
    with pytest.raises(RunStopped):
        checkpoint.export_checkpoint(path, tmp_path / "out")


def test_other_ranks_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "step_3")
    manifest = checkpoint.verify(path)
    checkpoint.check_layout(manifest, path=path, num_ranks=1, zero_stage=2)
    with pytest.raises(UserError, match=r"set rl.learner.ranks: 1"):
        checkpoint.check_layout(manifest, path=path, num_ranks=2, zero_stage=2)
    with pytest.raises(UserError, match=r"set rl.learner.zero_stage: 2"):
        checkpoint.check_layout(manifest, path=path, num_ranks=1, zero_stage=3)
    with pytest.raises(UserError, match=r"rl.learner.lora = None, this run has {'rank': 4}"):
        checkpoint.check_layout(manifest, path=path, num_ranks=1, zero_stage=2, lora={"rank": 4})


def test_export_copies_the_policy(tmp_path: Path) -> None:
    path = write(tmp_path / "step_3")
    out = checkpoint.export_checkpoint(path, tmp_path / "out")
    assert [entry.name for entry in out.iterdir()] == ["model.safetensors"]
    with pytest.raises(UserError, match="not empty"):
        checkpoint.export_checkpoint(path, out)


def test_state_that_is_not_json_is_refused_and_nothing_appears(tmp_path: Path) -> None:
    path = tmp_path / "step_3"
    checkpoint.begin(path)
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.commit(path, state={"a": float("nan")}, num_ranks=1, zero_stage=0)
    assert not path.exists()


def test_random_states_come_back(tmp_path: Path) -> None:
    checkpoint.save_rng(tmp_path / "rng", rank=1)
    drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    checkpoint.load_rng(tmp_path / "rng", rank=1)
    assert drawn == [random.random(), float(np.random.rand()), float(torch.rand(()))]
    assert json.dumps(drawn)
