"""What keeps a run from beginning, or from going on, is found before anything is started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from launch import compose
from launch.compose import train
from launch.prompts import RunPrompts
from launch.run_dir import RunDir
from recipes.load import dump_resolved, load_recipe
from rewards.errors import UserError
from rollouts.models import load_tokenizer
from rollouts.tasks import build_task
from rollouts.tiny import build_tiny_model, build_tiny_tokenizer
from tests.launch.fakes import PYTHON_JUDGE, write_recipe_folder
from tests.rl.fakes import make_group

RECIPE = Path(__file__).parents[1] / "e2e" / "data" / "tiny.yaml"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run after its first step; nothing can be started."""
    build_tiny_model(tmp_path / "model")
    rows = [json.dumps({"prompt": f"Write about number {n}."}) for n in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    shutil.copy(RECIPE, tmp_path / "tiny.yaml")
    recipe = load_recipe(tmp_path / "tiny.yaml", [f"model.path={tmp_path / 'model'}"]).recipe
    run = RunDir.create(tmp_path, "tiny", dump_resolved(recipe), seed=3)
    run.checkpoint_path(1).mkdir()
    task = build_task(recipe.task, seed=recipe.seed, base_dir=tmp_path)
    requests = RunPrompts.encode(recipe, task, load_tokenizer(tmp_path / "model")).heldout_requests(0)
    run.save_start_answers([make_group(str(request.key), [2], prompt_id=request.prompt.id) for request in requests])
    monkeypatch.setattr(compose, "ray_session", _never)
    return run


def _never(recipe: object) -> None:
    raise AssertionError("Ray was about to be started")


def resume(run: RunDir, *overrides: str) -> None:
    train(load_recipe(run.path / "recipe.json", overrides), resume=run.path)


def test_a_recipe_that_ends_before_the_checkpoint_is_refused(run: RunDir) -> None:
    run.checkpoint_path(3).mkdir()
    with pytest.raises(UserError, match=r"rl\.num_steps: 2, and .* is at step 3 already"):
        resume(run, "rl.num_steps=2")


def test_other_heldout_prompts_are_refused(run: RunDir) -> None:
    for override in ("seed=4", "evaluation.num_prompts=3", "evaluation.rollouts_per_prompt=2"):
        with pytest.raises(UserError, match="are not those that the run's starting model answered"):
            resume(run, override)
    with pytest.raises(AssertionError, match="Ray was about to be started"):
        resume(run, "rl.num_steps=9")
    assert run.recipes() == [run.recipe()]  # what came to nothing is not remembered
    assert "resumed" not in run.provenance()


@pytest.fixture
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
