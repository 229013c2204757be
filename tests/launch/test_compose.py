"""What keeps a run from beginning is found before anything of it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.compose import train
from recipes.load import load_recipe
from rewards.errors import UserError
from rollouts.tiny import build_tiny_tokenizer
from tests.launch.fakes import PYTHON_JUDGE, write_recipe_folder


@pytest.fixture(autouse=True)
def recipe_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_recipe_folder(tmp_path)
    build_tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.heldout=195", "5 training prompts are fewer than rollouts.prompts_per_step = 6"),
        ("rewards.gates=[{kind: command, command: [nosuchprog]}]", "rewards.gates.0.command.* no program 'nosuchprog'"),
        (
            "evaluation.audit_judge={kind: chat, endpoint: {base_url: 'http://h/v1', model: m, api_key_env: NOPE_KEY}}",
            "evaluation.audit_judge.endpoint.api_key_env = 'NOPE_KEY': environment variable NOPE_KEY is not set",
        ),
        ("rollouts.max_prompt_tokens=10", "more than rollouts.max_prompt_tokens = 10"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder_behind(recipe_folder: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(load_recipe("full.yaml", [PYTHON_JUDGE, override]))
    assert not (recipe_folder / "runs").exists()
