"""`podium eval RUN`: the starting model and the checkpoints of a run meet on the held-out prompts.

for each player: its engines start -> answers to the held-out prompts -> its engines end
then, per prompt and answer index: one group of all players -> the recipe's judge, both orders, everybody meets
     -> wins_PKK -> ladder (launch/ladder.py), rows per meeting, best checkpoint
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from launch import atomic, tables
from launch.devices import Device, engine_specs, resolve_device
from launch.gpu_placement import place
from launch.judging import make_sink, open_rewards, pairwise
from launch.ladder import Rung, fit_ladder, length_controlled_win_rate
from launch.prompts import RunPrompts
from launch.run_dir import RunDir
from launch.session import ray_session, signals_cancel
from recipes.load import LoadedRecipe
from recipes.schema import Recipe
from rewards.config import TournamentRewards
from rewards.errors import RunStopped, UserError
from rewards.types import GroupKey, GroupScore
from rl.checkpoint import MODEL
from rollouts.models import load_tokenizer, resolve_model
from rollouts.pool import EnginePool, candidate_of
from rollouts.tasks import build_task
from rollouts.types import Group

START = "start"


@dataclass(frozen=True, slots=True)
class Player:
    """A model that takes part; step 0 is the starting model."""

    name: str
    step: int
    model: Path


def evaluate(loaded: LoadedRecipe, run: RunDir, *, steps: Sequence[int] = (), say: Callable[[str], None]) -> Path:
    """Plays the ladder and writes `RUN/ladder.json` and `RUN/evaluation/ladder.parquet`; returns the first.

    Args:
        steps: of the checkpoints that play; default: all that the run keeps.

    Raises:
        UserError: no such checkpoint, or rewards that are no tournament.
        RunStopped: a player lost every answer, or the judge gave no verdict at all.
    """
    recipe = loaded.recipe
    if not isinstance(recipe.rewards, TournamentRewards):
        raise UserError("podium eval: `rewards` must be a tournament, so that checkpoints can meet")
    kept = run.checkpoints()
    if missing := sorted(set(steps) - set(kept)):
        raise UserError(f"--step {missing[0]}: {run.path} has checkpoints of steps {kept or 'none'}")
    chosen = sorted(set(steps)) or kept
    if not chosen:
        raise UserError(f"{run.path} has no checkpoint yet; there is nobody for the starting model to meet")
    players = [Player(START, 0, resolve_model(recipe.model.path))]
    players += [Player(f"step {step}", step, run.checkpoint_path(step) / MODEL) for step in chosen]
    return asyncio.run(_evaluate(recipe, loaded.base_dir, run, players, say))


async def _evaluate(
    recipe: Recipe, base_dir: Path, run: RunDir, players: Sequence[Player], say: Callable[[str], None]
) -> Path:
    device = resolve_device(recipe)
    task = build_task(recipe.task, seed=recipe.seed, base_dir=base_dir)
    prompts = RunPrompts.encode(recipe, task, load_tokenizer(players[0].model))
    async with AsyncExitStack() as stack:
        stack.enter_context(signals_cancel())
        stack.enter_context(ray_session(recipe))
        answers: list[list[Group]] = []
        for player in players:
            say(f"{player.name}: sampling {len(prompts.heldout)} held-out prompts")
            answers.append(await _answers(recipe, device, prompts, player, task.parse))
        judge = await stack.enter_async_context(
            open_rewards(recipe.rewards, device=device, seed=recipe.seed, base_dir=base_dir)
        )
        say(f"judging {len(players)} players on {len(prompts.heldout)} prompts")
        sink = make_sink(pairwise(recipe.rewards), judge, seed=recipe.seed, carry_prior=False)
        groups = await _meet(answers, sink)
    games = [game for group, score in groups for game in meetings(group, score)]
    if not games:
        raise RunStopped(
            "the judge gave no verdict on any held-out prompt; check the judge, then run podium eval again"
        )
    return _write(run, recipe, players, games)


async def _answers(recipe: Recipe, device: Device, prompts: RunPrompts, player: Player, parse: Any) -> list[Group]:
    placement = place(recipe, device)
    pool = EnginePool(
        engine_specs(recipe, player.model, device),
        parse=parse,
        deadline_s=recipe.rollouts.deadline_s,
        bundles=placement.engine_bundles,
        gpu_share=placement.engine_share,
        max_replacements=recipe.rollouts.max_engine_replacements,  # a new engine loads the player's own weights
    )
    try:
        await pool.start()
        return await pool.sample(prompts.heldout_requests(player.step))
    finally:
        await pool.stop()
        placement.release()


async def _meet(answers: Sequence[Sequence[Group]], sink: Any) -> list[tuple[Sequence[Any], GroupScore]]:
    """One group per prompt and answer index; its slots are the players."""
    met: dict[GroupKey, Sequence[Any]] = {}
    for per_player in zip(*answers, strict=True):
        for index in range(len(per_player[0].rollouts)):
            key = GroupKey(f"ladder-{per_player[0].prompt.id}-{index}")
            met[key] = [(group.prompt, group.rollouts[index]) for group in per_player]
            await sink.open(key, per_player[0].prompt, len(per_player))
            for slot, (_, rollout) in enumerate(met[key]):
                if rollout is not None:
                    await sink.add(key, slot, candidate_of(rollout))
            await sink.close(key)
    scores = await sink.scores()
    return [(members, scores[key]) for key, members in met.items()]


def meetings(members: Sequence[Any], score: GroupScore) -> list[dict[str, Any]]:
    """Every game of one group as a row: outcome 1 if `after` won. A gate decides before the judge, as in training."""
    failed = {slot for slots in score.gate_failures.values() for slot in slots}
    results = (
        {}
        if score.kind is None
        else {(match.pairing.a, match.pairing.b): match.result(score.kind) for match in score.matches}
    )
    rows: list[dict[str, Any]] = []
    for a in range(len(members)):
        for b in range(a + 1, len(members)):
            (prompt, before), (_, after) = members[a], members[b]
            if before is None or after is None:
                continue
            if a in failed or b in failed:
                outcome = 0.5 if a in failed and b in failed else float(a in failed)
            else:
                result = results.get((a, b))
                if result is None:
                    continue
                outcome = 1.0 - result
            rows.append(
                {
                    "prompt_id": prompt.id,
                    "before": a,
                    "after": b,
                    "outcome": outcome,
                    "gated": a in failed or b in failed,
                    "before_tokens": before.num_tokens,
                    "after_tokens": after.num_tokens,
                    "before_text": before.text,
                    "after_text": after.text,
                }
            )
    return rows


def _write(run: RunDir, recipe: Recipe, players: Sequence[Player], games: Sequence[dict[str, Any]]) -> Path:
    numbers = {prompt_id: at for at, prompt_id in enumerate(dict.fromkeys(game["prompt_id"] for game in games))}
    wins_PKK = np.zeros((len(numbers), len(players), len(players)))
    for game in games:
        at = numbers[game["prompt_id"]]
        wins_PKK[at, game["after"], game["before"]] += game["outcome"]
        wins_PKK[at, game["before"], game["after"]] += 1.0 - game["outcome"]
    names = [player.name for player in players]
    rungs = fit_ladder(wins_PKK, names, num_resamples=recipe.evaluation.bootstrap, seed=recipe.seed)
    best = max(zip(players[1:], rungs[1:], strict=True), key=lambda one: one[1].strength)[0]
    versus_start = [game for game in games if game["before"] == 0 and game["after"] == players.index(best)]
    controlled = length_controlled_win_rate(
        np.array([game["outcome"] for game in versus_start]),
        np.array([float(game["after_tokens"] - game["before_tokens"]) for game in versus_start]),
    )
    result = {
        "players": [asdict(rung) for rung in rungs],
        "best_step": best.step,
        "best_against_start": {
            "win_rate": float(np.mean([game["outcome"] for game in versus_start])),
            "length_controlled_win_rate": controlled,
            "num_games": len(versus_start),
        },
        "num_prompts": len(numbers),
    }
    rows = [game | {"before": names[game["before"]], "after": names[game["after"]]} for game in games]
    tables.write(run.path / "evaluation" / "ladder.parquet", pa.Table.from_pylist(rows))
    path = run.path / "ladder.json"
    atomic.write_bytes(path, (json.dumps(result, indent=2) + "\n").encode())
    return path


def ladder_text(result: dict[str, Any]) -> str:
    """The ladder, best first."""
    rungs = sorted(
        (Rung(**{**rung, "ci95": tuple(rung["ci95"])}) for rung in result["players"]), key=lambda r: -r.strength
    )
    width = max(len(rung.name) for rung in rungs)
    lines = [f"{'':<{width}}  strength (logits above the start)   win rate against all   games"]
    lines += [
        f"{rung.name:<{width}}  {rung.strength:+.2f} [{rung.ci95[0]:+.2f}, {rung.ci95[1]:+.2f}]"
        f"{'':<14} {rung.win_rate:.3f} {'':<16} {rung.num_games:.0f}"
        for rung in rungs
    ]
    best = result["best_against_start"]
    controlled = best["length_controlled_win_rate"]
    lines += [
        "",
        f"best checkpoint: step {result['best_step']}, {best['win_rate']:.3f} against the start"
        + (f", {controlled:.3f} at equal length" if controlled is not None else ""),
    ]
    return "\n".join(lines)
