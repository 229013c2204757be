"""`podium eval RUN|RECIPE`: models meet on the held-out prompts, before the recipe's judge.

players: RUN    its starting model, its checkpoints and every --model
         RECIPE its model and every --model; without one, its model twice with other seeds: what chance alone gives

for each model: its engines start -> answers to the held-out prompts -> its engines end
then, per prompt and answer index: one group of all players -> judge, everybody meets or a knockout
     -> games (launch/meetings.py) -> a second judge, if the recipe has one -> standings (launch/standings.py)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from launch import atomic, tables
from launch.absent import refuse_absent
from launch.desk import cache_path, make_desk, open_cache
from launch.devices import Device, engine_specs, resolve_device
from launch.gpu_placement import place
from launch.judging import audit_rewards, ladder_rewards, make_sink, open_judge, open_rewards
from launch.meetings import Game, games_of
from launch.prompts import RunPrompts
from launch.run_dir import RunDir
from launch.session import ray_session, signals_cancel
from launch.standings import standings
from launch.starting import start_model
from recipes.load import LoadedRecipe, dump_resolved
from recipes.schema import Recipe
from rewards.cache import JudgeCache
from rewards.errors import RunStopped, UserError
from rewards.health import judge_health
from rewards.types import GroupKey, GroupScore, GroupSink, Prompt
from rl.checkpoint import MODEL
from rl.evaluation import outcome_of
from rollouts.models import load_tokenizer, resolve_model
from rollouts.pool import EnginePool
from rollouts.tasks import build_task
from rollouts.types import Group, Rollout, Task, candidate_of

START = "start"
OF_NO_MATTER = {
    "rollouts": {
        *("engines", "engines_per_node", "placement", "deadline_s", "max_engine_replacements"),
        *("group_size", "prompts_per_step", "temperature"),
    },
    "evaluation": {"every", "audit_judge", "bootstrap", "ladder"},
}
"""Keys that change no held-out answer."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Player:
    """A model that takes part. Its answers are sampled with the seeds of an evaluation after step `seeds_of`."""

    name: str
    model: Path
    seeds_of: int


def evaluate_run(
    loaded: LoadedRecipe, run: RunDir, *, steps: Sequence[int] = (), models: Sequence[str] = (), say: Say
) -> dict[str, Any]:
    """The starting model, checkpoints and `models`; writes `RUN/ladder.json` and `RUN/evaluation/ladder.parquet`.

    Args:
        steps: of the checkpoints that play; default: all that the run keeps.

    Raises:
        UserError: no such checkpoint or model, or a key or program that is not here.
        RunStopped: the judge gave no verdict at all.
    """
    recipe = loaded.recipe
    refuse_absent(loaded)
    kept = run.checkpoints()
    if missing := sorted(set(steps) - set(kept)):
        raise UserError(f"--step {missing[0]}: {run.path} has checkpoints of steps {kept or 'none'}")
    chosen = sorted(set(steps)) or kept
    if not chosen and not models:
        raise UserError(f"{run.path} has no checkpoint yet; there is nobody for the starting model to meet")
    players = [Player(START, start_model(recipe), 0)]
    players += [Player(f"step {step}", run.checkpoint_path(step) / MODEL, step) for step in chosen]
    players += _others(models, 1 + recipe.rl.num_steps, players)
    at = {f"step {step}": step for step in chosen}
    result = asyncio.run(_evaluate(recipe, loaded.base_dir, run, players, _saved_start(recipe, run), say))
    return _write(run, result | {"best_step": at.get(result["best"])})


def evaluate_recipe(loaded: LoadedRecipe, *, models: Sequence[str] = (), say: Say) -> tuple[Path, dict[str, Any]]:
    """The recipe's model and `models`, without training; returns the folder that holds the result, and the result.

    Raises:
        UserError: no such model, or a key or program that is not here.
        RunStopped: the judge gave no verdict at all.
    """
    recipe = loaded.recipe
    refuse_absent(loaded)
    players = [Player(START, start_model(recipe), 0)]
    players += _others(models, 1, players) or [Player(f"{START} again", players[0].model, 1)]
    run = RunDir.create(recipe.launch.storage, f"{recipe.name}-eval", dump_resolved(recipe), seed=recipe.seed)
    return run.path, _write(run, asyncio.run(_evaluate(recipe, loaded.base_dir, run, players, None, say)))


def _others(models: Sequence[str], first_seeds: int, players: Sequence[Player]) -> list[Player]:
    """`models` as players beside `players`; names tell all of them apart."""
    names = [*(player.name for player in players), *models]
    if twice := {model for model in models if names.count(model) > 1}:
        raise UserError(
            f"--model {min(twice)}: a player of this name takes part already; name each once, a folder of this name by "
            "its whole path"
        )
    return [Player(model, resolve_model(model), first_seeds + at) for at, model in enumerate(models)]


def _saved_start(recipe: Recipe, run: RunDir) -> list[Group] | None:
    """The starting model's answers that training kept, if it would give these very answers again."""
    now = json.loads(json.dumps(dump_resolved(recipe)))
    # Whichever recipe they were given under: a resume may have changed it.
    return run.load_start_answers() if all(_answers_equal(now, then) for then in run.recipes()) else None


def _answers_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether one model answers the held-out prompts alike under both recipes."""
    same = all(one[section] == other.get(section) for section in ("seed", "model", "task"))
    same &= one["rl"]["init_from"] == other.get("rl", {}).get("init_from")
    for section, of_no_matter in OF_NO_MATTER.items():
        mine, its = (
            {key: value for key, value in recipe.get(section, {}).items() if key not in of_no_matter}
            for recipe in (one, other)
        )
        same &= mine == its
    return same


async def _evaluate(
    recipe: Recipe,
    base_dir: Path,
    run: RunDir,
    players: Sequence[Player],
    start_answers: list[Group] | None,
    say: Say,
) -> dict[str, Any]:
    device = resolve_device(recipe)
    task = build_task(recipe.task, seed=recipe.seed, base_dir=base_dir)
    asked = [prompt.id for prompt in task.heldout_prompts()[: recipe.evaluation.num_prompts]]
    if start_answers is not None and [group.prompt.id for group in start_answers] != asked:
        start_answers = None  # the task's prompts have changed since
    async with AsyncExitStack() as stack:
        stack.enter_context(signals_cancel())
        stack.enter_context(ray_session(recipe))
        answers = await _answers(recipe, device, task, players, start_answers, say)
        say(f"judging {len(players)} players on {len(answers[0])} prompts")
        cache = await stack.enter_async_context(open_cache(cache_path(recipe.rewards, run.path)))
        async with open_rewards(
            recipe.rewards, device=device, seed=recipe.seed, base_dir=base_dir, cache=cache
        ) as judge:
            desk = await make_desk(recipe.rewards, judge, cache=cache, base_dir=base_dir)
            rewards = ladder_rewards(recipe.rewards, recipe.evaluation.ladder)
            sink = make_sink(rewards, judge, seed=recipe.seed, carry_prior=False, desk=desk)
            met = await meet(answers, sink)
        games = [game for prompt, index, members, score in met for game in games_of(prompt, index, members, score)]
        if not games:
            raise RunStopped(
                "the judge gave no verdict on any held-out prompt; check the judge, then run podium eval again"
            )
        audit = await _audit(recipe, base_dir, device, cache, games, say)
    names = [player.name for player in players]
    seconds = None if audit is None else audit[1]
    result = standings(
        names, games, bootstrap=recipe.evaluation.bootstrap, seed=recipe.seed, second_outcomes=seconds
    ) | {"ladder": recipe.evaluation.ladder, "judge": judge_health([score for *_, score in met])}
    if audit is not None:
        result["audit"] |= {"judge": audit[0], "judge_calls": audit[2]}
    rows = [game.to_row(names, second) for game, second in zip(games, seconds or [None] * len(games), strict=True)]
    tables.write(run.path / "evaluation" / "ladder.parquet", pa.Table.from_pylist(rows))
    return result


async def _answers(
    recipe: Recipe,
    device: Device,
    task: Task,
    players: Sequence[Player],
    start_answers: list[Group] | None,
    say: Say,
) -> list[list[Group]]:
    """Per player, its answers; a model that plays twice starts its engines once."""
    found: dict[str, list[Group]] = {}
    if start_answers is not None:
        say(f"{players[0].name}: answers of the run")
        found[players[0].name] = start_answers
    for model in dict.fromkeys(player.model for player in players if player.name not in found):
        its = [player for player in players if player.model == model and player.name not in found]
        tokenizer = load_tokenizer(model)
        prompts = RunPrompts.encode(recipe, task, tokenizer)
        say(f"{' and '.join(player.name for player in its)}: sampling {len(prompts.heldout)} held-out prompts")
        placement = place(recipe, device, learner=False)
        pool = EnginePool(
            engine_specs(recipe, model, device),
            parse=task.parse,
            tokenizer=tokenizer,
            deadline_s=recipe.rollouts.deadline_s,
            bundles=placement.engine_bundles,
            gpu_share=placement.engine_share,
            max_replacements=recipe.rollouts.max_engine_replacements,  # a new engine loads the player's own weights
        )
        try:
            await pool.start()
            for player in its:
                found[player.name] = await pool.sample(prompts.heldout_requests(player.seeds_of))
        finally:
            await pool.stop()
            placement.release()
    return [found[player.name] for player in players]


async def meet(
    answers: Sequence[Sequence[Group]], sink: GroupSink
) -> list[tuple[Prompt, int, list[Rollout | None], GroupScore]]:
    """One group per prompt and answer index, whose slots are the players: (prompt, index, answers, score)."""
    met: dict[GroupKey, tuple[Prompt, int, list[Rollout | None]]] = {}
    for per_player in zip(*answers, strict=True):
        prompt = per_player[0].prompt
        for index in range(len(per_player[0].rollouts)):
            key = GroupKey(f"ladder-{prompt.id}-{index}")
            members = [group.rollouts[index] for group in per_player]
            met[key] = (prompt, index, members)
            await sink.open(key, prompt, len(members))
            for slot, rollout in enumerate(members):
                if rollout is not None:
                    await sink.add(key, slot, candidate_of(rollout))
            await sink.close(key)
    scores = await sink.scores()
    return [(*group, scores[key]) for key, group in met.items()]


async def _audit(
    recipe: Recipe, base_dir: Path, device: Device, cache: JudgeCache | None, games: Sequence[Game], say: Say
) -> tuple[str, list[float | None], int] | None:
    """A second judge on the games that a judge decided: its name, its outcome per game, its calls."""
    config, rewards = recipe.evaluation.audit_judge, audit_rewards(recipe.rewards)
    if config is None or rewards is None:
        return None
    rewards = rewards.model_copy(update={"judge": config})
    async with open_judge(config, device=device, seed=recipe.seed, base_dir=base_dir, cache=cache) as judge:
        say(f"asking the second judge, {judge.name}")
        desk = await make_desk(rewards, judge, cache=cache, base_dir=base_dir)
        sink = make_sink(rewards, judge, seed=recipe.seed, carry_prior=False, desk=desk)
        outcomes, num_calls = await second_opinion(games, sink)
        return judge.name, outcomes, num_calls


async def second_opinion(games: Sequence[Game], sink: GroupSink) -> tuple[list[float | None], int]:
    """Every game that no gate decided once more, as a group of two: outcomes and the number of judge calls."""
    keys = [None if game.gated else GroupKey(f"audit-{number}") for number, game in enumerate(games)]
    for key, game in zip(keys, games, strict=True):
        if key is None:
            continue
        await sink.open(key, game.prompt, 2)
        await sink.add(key, 0, candidate_of(game.before_answer))
        await sink.add(key, 1, candidate_of(game.after_answer))
        await sink.close(key)
    scores = await sink.scores()
    outcomes = [None if key is None else outcome_of(scores[key]) for key in keys]
    return outcomes, sum(score.num_calls for score in scores.values())


def _write(run: RunDir, result: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(result, indent=2)
    atomic.write_bytes(run.path / "ladder.json", f"{text}\n".encode())
    return json.loads(text)
