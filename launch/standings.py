"""What `podium eval` says in the end: the ladder, the best player against the first, what a second judge thinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from launch.ladder import Rung, fit_ladder, length_controlled_win_rate
from launch.meetings import Game
from rl.evaluation import bootstrap_ci95, judge_agreement


def standings(
    names: Sequence[str],
    games: Sequence[Game],
    *,
    bootstrap: int,
    seed: int,
    second_outcomes: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    """JSON values. The first of `names`, the starting model, has strength 0; `best` is the strongest of the others
    that played.

    Args:
        games: at least one.
        bootstrap: resamples of every interval; prompts are what is drawn again.
        second_outcomes: per game, the second judge's outcome; None where it was not asked or gave no verdict.
    """
    rungs = _rungs(names, games, [game.outcome for game in games], bootstrap, seed)
    best = max(range(1, len(names)), key=lambda k: (rungs[k].num_games > 0, rungs[k].strength))
    result: dict[str, Any] = {
        "players": [
            asdict(rung)
            | {"mean_tokens": _mean_tokens(games, k), "against_start": _against_first(games, k, bootstrap, seed)}
            for k, rung in enumerate(rungs)
        ],
        "best": names[best],
        "best_against_start": _against_first(games, best, bootstrap, seed),
        "num_prompts": len({game.prompt.id for game in games}),
        "num_games": len(games),
    }
    if second_outcomes is not None:
        asked = [(game, second) for game, second in zip(games, second_outcomes, strict=True) if not game.gated]
        decided = [(game, second) for game, second in asked if second is not None]
        agreement = judge_agreement([game.outcome for game, _ in asked], [second for _, second in asked])
        result["audit"] = {"agreement": agreement.to_json(), "players": None}
        if decided:
            seen, outcomes = [game for game, _ in decided], [second for _, second in decided]
            result["audit"]["players"] = [asdict(rung) for rung in _rungs(names, seen, outcomes, bootstrap, seed)]
    return result


def _rungs(
    names: Sequence[str], games: Sequence[Game], outcomes: Sequence[float], bootstrap: int, seed: int
) -> list[Rung]:
    rows = {prompt_id: row for row, prompt_id in enumerate(dict.fromkeys(game.prompt.id for game in games))}
    wins_PKK = np.zeros((len(rows), len(names), len(names)))
    for game, outcome in zip(games, outcomes, strict=True):
        wins_PKK[rows[game.prompt.id], game.after, game.before] += outcome
        wins_PKK[rows[game.prompt.id], game.before, game.after] += 1.0 - outcome
    return fit_ladder(wins_PKK, names, num_resamples=bootstrap, seed=seed)


def _mean_tokens(games: Sequence[Game], player: int) -> float | None:
    """Over the player's answers, each counted once however often it met others."""
    lengths = {
        (game.prompt.id, game.index): answer.num_tokens
        for game in games
        for who, answer in ((game.before, game.before_answer), (game.after, game.after_answer))
        if who == player
    }
    return float(np.mean(list(lengths.values()))) if lengths else None


def _against_first(games: Sequence[Game], player: int, bootstrap: int, seed: int) -> dict[str, Any] | None:
    """Win rate over prompts against player 0, as in training's held-out games; None where the two never met."""
    met = [game for game in games if game.before == 0 and game.after == player]
    if not met:
        return None
    by_prompt: dict[str, list[float]] = {}
    for game in met:
        by_prompt.setdefault(game.prompt.id, []).append(game.outcome)
    per_prompt_P = [float(np.mean(outcomes)) for outcomes in by_prompt.values()]
    return {
        "win_rate": float(np.mean(per_prompt_P)),
        "ci95": list(bootstrap_ci95(per_prompt_P, num_resamples=bootstrap, seed=seed)),
        "length_controlled_win_rate": length_controlled_win_rate(
            np.array([game.outcome for game in met]), np.array([game.length_gap for game in met])
        ),
        "num_games": len(met),
    }


def standings_text(result: dict[str, Any]) -> str:
    """The ladder, best first, for people."""
    rungs = sorted(result["players"], key=lambda rung: -rung["strength"])
    width = max(len(rung["name"]) for rung in rungs)
    lines = [f"{'':<{width}}  {'strength above the start (logits)':<35}{'wins of all':<13}{'games':<7}tokens"]
    for rung in rungs:
        low, high = rung["ci95"]
        strength = f"{rung['strength']:+.2f} [{low:+.2f}, {high:+.2f}]"
        tokens = "" if rung["mean_tokens"] is None else f"{rung['mean_tokens']:.1f}"
        lines.append(
            f"{rung['name']:<{width}}  {strength:<35}{rung['win_rate']:<13.3f}{rung['num_games']:<7.0f}{tokens}"
        )
    lines += ["", f"best: {result['best']}{_against_text(result['best_against_start'])}"]
    if "audit" in result:
        agreement = result["audit"]["agreement"]
        kappa = "" if agreement["kappa"] is None else f", kappa {agreement['kappa']:.2f}"
        share = "decided nothing" if agreement["share"] is None else f"agrees on {agreement['share']:.0%}"
        lines.append(f"second judge ({result['audit']['judge']}): {share} of {agreement['num_pairs']} games{kappa}")
        if result["audit"]["players"]:
            seen = sorted(result["audit"]["players"], key=lambda rung: -rung["strength"])
            lines.append("  its ladder: " + ", ".join(f"{rung['name']} {rung['strength']:+.2f}" for rung in seen))
    return "\n".join(lines)


def _against_text(against: dict[str, Any] | None) -> str:
    if against is None:
        return ", which never met the start"
    low, high = against["ci95"]
    text = f", {against['win_rate']:.3f} [{low:.3f}, {high:.3f}] against the start"
    controlled = against["length_controlled_win_rate"]
    return text if controlled is None else f"{text}, {controlled:.3f} at equal length"
