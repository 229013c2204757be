"""`podium eval` with engines and a judge that are made up: who plays, what is reused, what the result says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from launch import eval as evaluation
from launch import starting
from launch.cli import app
from launch.eval import evaluate_recipe, evaluate_run
from launch.judging import audit_rewards, ladder_rewards
from launch.meetings import Game, games_of
from launch.run_dir import RunDir
from launch.standings import standings, standings_text
from launch.tables import read
from recipes.load import LoadedRecipe, dump_resolved, load_recipe
from rewards.config import TournamentRewards
from rewards.errors import RunStopped, UserError
from rewards.types import Candidate, GroupKey, GroupScore, Prompt
from rollouts.engine import EngineSpec
from rollouts.tiny import build_tiny_tokenizer
from rollouts.types import Group, GroupRequest
from tests.rl.fakes import make_rollout

PROMPT = Prompt("p", "a prompt")
HERE = __name__


def more_letters(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    a, b = len(first.text), len(second.text)
    return 1.0 if a > b else 0.0 if a < b else 0.5


def fewer_letters(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    return 1.0 - more_letters(prompt, first, second)


def nothing(prompt: Prompt, first: Candidate, second: Candidate) -> None:
    return None


def letters(prompt: Prompt, candidate: Candidate) -> float:
    return float(len(candidate.text))


# --- games and standings ------------------------------------------------------------------------------------------


def answers(*texts: str | None) -> list[Any]:
    key = GroupKey("g")
    return [None if text is None else make_rollout(key, i, len(text), text=text) for i, text in enumerate(texts)]


def outcomes(games: Sequence[Game]) -> dict[tuple[int, int], tuple[float, bool]]:
    return {(game.before, game.after): (game.outcome, game.gated) for game in games}


def test_gates_decide_before_rewards_and_lost_answers_play_no_game() -> None:
    score = GroupScore([0.1, 0.4, None, 0.4, 0.0], gate_failures={"length": (0,)})
    games = games_of(PROMPT, 3, answers("a", "bb", "c", "dd", None), score)
    assert outcomes(games) == {
        (0, 1): (1.0, True),
        (0, 2): (1.0, True),
        (0, 3): (1.0, True),
        (1, 3): (0.5, False),
    }
    both = GroupScore([0.0, 0.0], gate_failures={"length": (0, 1)})
    assert outcomes(games_of(PROMPT, 0, answers("a", "b"), both)) == {(0, 1): (0.5, True)}


def game(prompt: str, before: int, after: int, outcome: float, lengths: tuple[int, int] = (2, 3)) -> Game:
    one, other = answers("x" * lengths[0], "y" * lengths[1])
    return Game(replace(PROMPT, id=prompt), 0, before, after, one, other, outcome, gated=False)


def test_standings_by_hand() -> None:
    games = [game("p", 0, 1, 1.0), game("q", 0, 1, 0.0), game("r", 0, 1, 1.0), game("r", 0, 2, 0.0)]
    result = standings(["start", "one", "two"], games, bootstrap=200, seed=0)
    assert (result["best"], result["num_prompts"], result["num_games"]) == ("one", 3, 4)
    against = result["best_against_start"]
    assert (against["win_rate"], against["num_games"]) == (pytest.approx(2 / 3), 3)
    assert against["ci95"][0] < 2 / 3 < against["ci95"][1]
    assert [player["mean_tokens"] for player in result["players"]] == [2.0, 3.0, 3.0]
    assert result["players"][0]["against_start"] is None
    text = standings_text(result)
    assert text.splitlines()[1].startswith("one ")
    assert "best: one, 0.667 [" in text
    assert "second judge" not in text


def test_who_played_no_game_is_not_the_best() -> None:
    result = standings(["start", "loser", "absent"], [game("p", 0, 1, 0.0)] * 9, bootstrap=200, seed=0)
    _, loser, absent = result["players"]
    assert loser["strength"] < absent["strength"]
    assert (result["best"], absent["num_games"]) == ("loser", 0)


def test_a_second_judge_counts_where_it_decided() -> None:
    games = [
        game("p", 0, 1, 1.0),
        game("q", 0, 1, 1.0),
        game("r", 0, 1, 0.0),
        replace(game("s", 0, 1, 1.0), gated=True),
    ]
    result = standings(["start", "one"], games, bootstrap=200, seed=0, second_outcomes=[1.0, 0.0, None, None])
    assert result["audit"]["agreement"] == {"share": 0.5, "kappa": 0.0, "num_pairs": 2}
    assert result["audit"]["players"][1]["num_games"] == 2
    result["audit"]["judge"] = "another"
    assert "second judge (another): agrees on 50% of 2 games, kappa 0.00" in standings_text(result)
    silent = standings(["start", "one"], games, bootstrap=200, seed=0, second_outcomes=[None] * 4)
    assert silent["audit"]["players"] is None
    silent["audit"]["judge"] = "another"
    assert "second judge (another): decided nothing" in standings_text(silent)


# --- whole evaluations --------------------------------------------------------------------------------------------


class Engines:
    """Model `.../NAME-3` answers with three letters, and the seed decides which; `started` says which models ran."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def pool(self, specs: Sequence[EngineSpec], **options: Any) -> Engines.Pool:
        return Engines.Pool(self, Path(specs[0].model).name)

    class Pool:
        def __init__(self, engines: Engines, model: str) -> None:
            self._engines, self._model = engines, model

        async def start(self) -> None:
            self._engines.started.append(self._model)

        async def sample(self, requests: Sequence[GroupRequest]) -> list[Group]:
            length = int(self._model.rpartition("-")[2])
            return [
                Group(
                    request.key,
                    request.prompt,
                    request.prompt_token_ids,
                    tuple(
                        make_rollout(request.key, i, length, text=chr(97 + seed % 26) * length)
                        for i, seed in enumerate(request.seeds)
                    ),
                )
                for request in requests
            ]

        async def stop(self) -> None: ...


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = Engines()
    monkeypatch.setattr(evaluation, "EnginePool", engines.pool)
    monkeypatch.setattr(evaluation, "ray_session", lambda recipe: nullcontext())
    monkeypatch.setattr(evaluation, "resolve_model", Path)
    monkeypatch.setattr(starting, "resolve_model", Path)
    monkeypatch.setattr(evaluation, "load_tokenizer", lambda model: build_tiny_tokenizer())
    return engines


def recipe(tmp_path: Path, *overrides: str) -> LoadedRecipe:
    rows = (json.dumps({"prompt": f"Write about number {n}."}) for n in range(12))
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    judge = f"rewards.judge.target={HERE}:more_letters"
    full = Path(__file__).parents[1] / "e2e" / "data" / "tiny.yaml"
    (tmp_path / "tiny.yaml").write_text(full.read_text())
    base = ["model.path=/m/start-3", f"launch.storage={tmp_path / 'runs'}", judge, "rollouts.prompts_per_step=2"]
    return load_recipe(tmp_path / "tiny.yaml", [*base, *overrides])


def evaluate(loaded: LoadedRecipe, *models: str) -> tuple[RunDir, dict[str, Any]]:
    folder, result = evaluate_recipe(loaded, models=models, say=lambda text: None)
    return RunDir.open(folder), result


def test_alone_a_recipes_model_meets_itself_with_other_seeds(engines: Engines, tmp_path: Path) -> None:
    run, result = evaluate(recipe(tmp_path))
    assert engines.started == ["start-3"]
    assert [player["name"] for player in result["players"]] == ["start", "start again"]
    assert result["best_against_start"]["win_rate"] == 0.5
    assert result["judge"]["num_calls"] == 8  # 4 prompts in both orders
    assert run.path.name.startswith("tiny-eval-")
    assert json.loads((run.path / "ladder.json").read_text()) == result
    rows = read(run.path / "evaluation" / "ladder.parquet").to_pylist()
    assert len(rows) == 4
    assert any(row["before_text"] != row["after_text"] for row in rows)


@pytest.mark.parametrize(("ladder", "games_per_prompt"), [("round_robin", 6), ("knockout", 3)])
def test_models_meet_everybody_or_in_brackets(
    engines: Engines, tmp_path: Path, ladder: str, games_per_prompt: int
) -> None:
    loaded = recipe(tmp_path, f"evaluation.ladder={ladder}", "evaluation.rollouts_per_prompt=2")
    run, result = evaluate(loaded, "/m/a-2", "/m/b-5", "/m/c-4")
    assert engines.started == ["start-3", "a-2", "b-5", "c-4"]
    assert result["num_games"] == 4 * 2 * games_per_prompt
    strength = {player["name"]: player["strength"] for player in result["players"]}
    assert sorted(strength, key=lambda name: strength[name]) == ["/m/a-2", "start", "/m/c-4", "/m/b-5"]
    assert result["best"] == "/m/b-5"
    assert read(run.path / "evaluation" / "ladder.parquet").num_rows == result["num_games"]


def test_a_second_judge_is_asked_about_the_very_games_of_a_bracket(engines: Engines, tmp_path: Path) -> None:
    audit = f"evaluation.audit_judge={{kind: python, target: '{HERE}:fewer_letters', verdict: hard, symmetric: true}}"
    run, result = evaluate(recipe(tmp_path, audit, "evaluation.ladder=knockout"), "/m/a-2", "/m/b-5")
    assert result["audit"]["judge"] == f"python:{HERE}:fewer_letters"
    assert result["audit"]["judge_calls"] == result["num_games"] == 8
    assert result["audit"]["agreement"]["share"] == 0.0
    rows = read(run.path / "evaluation" / "ladder.parquet").to_pylist()
    assert [row["second_outcome"] for row in rows] == [1.0 - row["outcome"] for row in rows]


def test_scores_make_games_too(engines: Engines, tmp_path: Path) -> None:
    scorer = f"rewards={{kind: scorer, target: '{HERE}:letters'}}"
    loaded = recipe(tmp_path)
    rewards = load_recipe(tmp_path / "tiny.yaml", ["model.path=/m/start-3", f"launch.storage={tmp_path}", scorer])
    assert audit_rewards(rewards.recipe.rewards) is None
    _, result = evaluate(replace(loaded, recipe=rewards.recipe), "/m/b-5")
    assert result["best_against_start"]["win_rate"] == 1.0


def test_a_judge_that_says_nothing_is_told(engines: Engines, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="no verdict on any held-out prompt"):
        evaluate(recipe(tmp_path, f"rewards.judge.target={HERE}:nothing"), "/m/b-5")


def test_players_are_told_apart_by_name(engines: Engines, tmp_path: Path) -> None:
    for models in (["/m/b-5", "/m/b-5"], ["start"]):
        with pytest.raises(UserError, match=f"--model {models[0]}: a player of this name takes part already"):
            evaluate(recipe(tmp_path), *models)
    assert engines.started == []


@pytest.mark.parametrize(
    ("override", "reused"),
    [("rollouts.engines=2", True), ("evaluation.bootstrap=100", True), ("rollouts.max_tokens=17", False)],
)
def test_a_runs_starting_answers_are_used_again_where_they_would_be_the_same(
    engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, reused: bool
) -> None:
    loaded = recipe(tmp_path)
    run = RunDir.create(tmp_path / "runs", "tiny", dump_resolved(loaded.recipe), seed=3)
    with pytest.raises(UserError, match="no checkpoint yet"):
        evaluate_run(loaded, run, say=lambda text: None)
    asked: list[str] = []
    first = evaluate_run(loaded, run, models=["/m/b-5"], say=asked.append)
    assert "start: sampling 4 held-out prompts" in asked
    saved = evaluation.RunPrompts.encode(loaded.recipe, _task(loaded), build_tiny_tokenizer()).heldout_requests(0)
    pool = engines.pool([EngineSpec("start-3", 9, loaded.recipe.rollouts.engine, "cpu")])
    run.save_start_answers(asyncio.run(pool.sample(saved)))
    (run.checkpoint_path(2) / "hf-4").mkdir(parents=True)
    monkeypatch.setattr(evaluation, "MODEL", "hf-4")
    engines.started.clear()
    result = evaluate_run(recipe(tmp_path, override), run, models=["/m/b-5"], say=asked.append)
    assert engines.started == [*([] if reused else ["start-3"]), "hf-4", "b-5"]
    run.record_resume(dump_resolved(recipe(tmp_path, override).recipe), after_step=2)  # its answers are older than this
    engines.started.clear()
    evaluate_run(recipe(tmp_path, override), run, models=["/m/b-5"], say=asked.append)
    assert engines.started == [*([] if reused else ["start-3"]), "hf-4", "b-5"]
    assert (result["best"], result["best_step"]) == ("/m/b-5", None)
    assert first["players"][1]["name"] == "/m/b-5"


def test_a_runs_starting_answers_to_other_prompts_are_not_used_again(engines: Engines, tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    run = RunDir.create(tmp_path / "runs", "tiny", dump_resolved(loaded.recipe), seed=3)
    saved = evaluation.RunPrompts.encode(loaded.recipe, _task(loaded), build_tiny_tokenizer()).heldout_requests(0)
    run.save_start_answers(
        asyncio.run(engines.pool([EngineSpec("start-3", 9, loaded.recipe.rollouts.engine, "cpu")]).sample(saved))
    )
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(prompts.read_text().replace("Write", "Sing"))
    evaluate_run(loaded, run, models=["/m/b-5"], say=lambda text: None)
    assert engines.started == ["start-3", "b-5"]


def _task(loaded: LoadedRecipe) -> Any:
    return evaluation.build_task(loaded.recipe.task, seed=loaded.recipe.seed, base_dir=loaded.base_dir)


def test_nobody_meets_twice_whatever_training_plays() -> None:
    rewards = TournamentRewards.model_validate(
        {
            "judge": {"kind": "python", "target": f"{HERE}:more_letters", "verdict": "hard"},
            "topology": {"kind": "single_elimination", "seeding": "anchor"},
        }
    )
    bracket, all_pairs = ladder_rewards(rewards, "knockout"), ladder_rewards(rewards, "round_robin")
    assert isinstance(bracket, TournamentRewards)
    assert isinstance(all_pairs, TournamentRewards)
    assert bracket.topology.model_dump() == {"kind": "single_elimination", "seeding": "random"}
    assert all_pairs.topology.model_dump() == {"kind": "round_robin"}


def test_steps_belong_to_runs(tmp_path: Path) -> None:
    recipe(tmp_path)
    done = CliRunner().invoke(app, ["eval", str(tmp_path / "tiny.yaml"), "--step", "3"])
    assert "--step names checkpoints of a run" in f"{done.output}{done.exception}"
