"""`podium eval`: a run's checkpoint as a user asks for it, and a recipe's model with others on the session's engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from launch import eval as evaluation
from launch import tables
from launch.eval import evaluate_recipe, evaluate_run
from launch.run_dir import RunDir
from recipes.load import load_recipe
from rl.weights import WeightSender
from rollouts.engine import EngineSpec
from rollouts.types import Group, GroupRequest
from tests.e2e.conftest import Stage
from tests.e2e.whole_runs import RECIPE, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_checkpoint_and_the_starting_model_meet_on_a_ladder(on_stage: None, run: RunDir) -> None:
    said: list[str] = []
    result = evaluate_run(load_recipe(run.path / "recipe.json"), run, steps=[3], say=said.append)
    assert said[0] == "start: answers of the run"
    first, last = result["players"]
    assert (first["name"], first["strength"], last["name"], result["best_step"]) == ("start", 0.0, "step 3", 3)
    assert last["ci95"][0] <= last["strength"] <= last["ci95"][1]
    assert 0.0 <= result["best_against_start"]["length_controlled_win_rate"] <= 1.0
    assert result["num_prompts"] == 4
    assert json.loads((run.path / "ladder.json").read_text()) == result
    rows = tables.read(run.path / "evaluation" / "ladder.parquet").to_pylist()
    assert len(rows) == 4
    # The starting model was not asked again: these are the answers that it gave in the run.
    trained = {row["prompt_id"]: row for row in run.load_evaluation(3)}
    for row in rows:
        assert row["before_text"] == trained[row["prompt_id"]]["before"]
    refused = start(["eval", str(run.path), "--step", "9"], code=2)
    assert "--step 9: " in refused.stderr


class StagePool:
    """Stands where `podium eval` starts engines: the session's engine, brought to the weights of the model."""

    def __init__(self, stage: Stage, specs: Sequence[EngineSpec]) -> None:
        self._stage, self._model = stage, specs[0].model

    async def start(self) -> None:
        model = AutoModelForCausalLM.from_pretrained(self._model, dtype=torch.float32)
        sender = WeightSender(model, dtype=torch.float32, backend="shm", rank=0)
        await asyncio.to_thread(sender.send, self._stage.pool.handles, 0, verify=True)
        sender.close()

    async def sample(self, requests: Sequence[GroupRequest]) -> list[Group]:
        return await self._stage.pool.sample(requests)

    async def stop(self) -> None: ...


@pytest.fixture
def on_stage(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(specs: Sequence[EngineSpec], **options: Any) -> StagePool:
        return StagePool(stage, specs)

    monkeypatch.setattr(evaluation, "EnginePool", make)
    monkeypatch.setattr(evaluation, "ray_session", lambda recipe: nullcontext())


def ask(model: Path, storage: Path, *more: str, models: Sequence[str] = ()) -> tuple[Path, dict[str, Any]]:
    settings = [f"model.path={model}", f"launch.storage={storage}", *more]
    return evaluate_recipe(load_recipe(RECIPE, settings), models=models, say=lambda text: None)


def test_a_recipes_model_meets_itself_and_others(
    on_stage: None, tiny_model: Path, exported: Path, tmp_path: Path
) -> None:
    folder, alone = ask(tiny_model, tmp_path)
    assert [player["name"] for player in alone["players"]] == ["start", "start again"]
    rows = tables.read(folder / "evaluation" / "ladder.parquet").to_pylist()
    assert len(rows) == 4
    assert all(row["before_text"] != row["after_text"] for row in rows)  # other seeds

    audit = "evaluation.audit_judge={kind: python, target: 'tests.e2e.judges:fewer_vowels', verdict: hard}"
    folder, result = ask(tiny_model, tmp_path, audit, "evaluation.ladder=knockout", models=[str(exported)])
    assert [player["name"] for player in result["players"]] == ["start", str(exported)]
    assert result["num_games"] == 4
    # The second judge says the opposite of the first wherever that one has a winner.
    assert result["audit"]["agreement"]["num_pairs"] == 4
    rows = tables.read(folder / "evaluation" / "ladder.parquet").to_pylist()
    assert [row["second_outcome"] for row in rows] == [1.0 - row["outcome"] for row in rows]
    assert result["audit"]["players"][1]["strength"] == pytest.approx(-result["players"][1]["strength"], abs=1e-6)
