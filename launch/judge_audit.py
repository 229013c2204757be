"""`podium judge-audit PAIRS.jsonl`: is a recipe's judge right about pairs whose better answer people have named?

pairs ------------as groups of two, in both orders--> a sink over the recipe's judge --> scores --> figures
  +--attacked (launch/judge_attacks.py), likewise----------^

Topology, aggregator, gates, router and budget of the recipe are left aside: every pair is put before the judge itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.judge_attacks import Texts, attack_judge, attack_lines, compare_texts, estimate_json, shown
from launch.judging import audit_rewards
from launch.ladder import length_controlled_win_rate
from launch.reward_side import call_counter, needed_fields, open_reward_side
from launch.session import signals_cancel
from recipes.reward import LoadedRewards
from rewards.aggregator_config import WinRate
from rewards.aggregators.votes import FloatArray
from rewards.attacks import ATTACKS
from rewards.calibration import KnownPair, load_pairs
from rewards.config import CallBudget, RewardsConfig, TournamentRewards
from rewards.diagnostics.bootstrap import Estimate
from rewards.diagnostics.known_pairs import (
    accuracy_by_margin,
    brier_score,
    calibration_error,
    human_kappa,
    pair_outcomes,
    pair_results,
    share,
    verdict_accuracy,
)
from rewards.errors import UserError
from rewards.health import Rate, failure_rate, first_seat_rate, order_flip_rate, tie_rate
from rewards.types import GroupScore, Judge, VerdictKind

NUM_LENGTH_RESAMPLES = 200
"""Each is a regression of its own."""


def judge_audit(path: Path, loaded: LoadedRewards, *, attacks: Sequence[str] = tuple(ATTACKS)) -> dict[str, Any]:
    """Every pair of `path` before the judge of `loaded`, as given and after each of `attacks`; figures for scripts.

    Raises:
        UserError: bad input, or rewards without a judge that compares two answers.
        RunStopped: the judge is down.
    """
    for attack in attacks:
        if attack not in ATTACKS:
            raise UserError(f"judge-audit: there is no attack {attack!r}; there are {', '.join(ATTACKS)}")
    pairs = load_pairs(path, key="")
    rewards = audited_rewards(loaded.recipe.rewards)
    for pair in pairs:
        for name in needed_fields(rewards):
            if name not in pair.prompt.fields:
                raise UserError(f"{path}: pair {pair.prompt.id}: fields.{name} is missing; the judge reads it")
    recipe = loaded.recipe.model_copy(update={"rewards": rewards})
    return asyncio.run(_audit(pairs, LoadedRewards(recipe, loaded.path, loaded.base_dir), list(dict.fromkeys(attacks))))


def audited_rewards(config: RewardsConfig) -> TournamentRewards:
    """The judge alone: every pair in both orders.

    Raises:
        UserError: there is no judge.
    """
    alone = audit_rewards(config)
    if alone is None:
        raise UserError("judge-audit: these rewards come from a scorer; name a recipe whose rewards have a judge")
    return alone.model_copy(
        update={
            "aggregator": WinRate(kind="win_rate"),
            "orders": "both",
            "close_margin": None,
            "merge": "sum",
            "router": None,
            "prior_scorer": None,
            "min_verdicts": 1,
            "budget": CallBudget(),
        }
    )


async def _audit(pairs: Sequence[KnownPair], loaded: LoadedRewards, attacks: Sequence[str]) -> dict[str, Any]:
    seed = loaded.recipe.seed
    with signals_cancel(), call_counter(f"auditing {len(pairs)} pairs") as on_call:
        async with open_reward_side(loaded) as side:
            if not isinstance(side.judge, Judge):
                raise UserError(f"{loaded.path}: this judge ranks several at once; audit one that compares two answers")
            kind, name, symmetric = side.judge.kind, side.judge.name, side.judge.symmetric
            sink = side.sink(on_call=on_call)
            try:
                texts = [(pair.better.text, pair.worse.text) for pair in pairs]
                scores = await compare_texts(sink, pairs, texts)
                results_P = pair_results(pair_outcomes(scores), kind)
                attacked = {
                    attack: await attack_judge(attack, sink, pairs, results_P, kind, seed=seed) for attack in attacks
                }
            finally:
                await sink.stop()
            spent = side.ledger.summary().get("scoring", {})
    said = figures(texts, scores, kind, symmetric=symmetric, seed=seed)
    return {"judge": name, "verdict": kind, **said, "attacks": attacked, "judges": spent}


def figures(
    texts: Sequence[Texts], scores: Sequence[GroupScore], kind: VerdictKind, *, symmetric: bool, seed: int
) -> dict[str, Any]:
    """What the verdicts say of the judge; `texts` and `scores` have the better answer first.

    A symmetric judge is asked in one order and has no figures about seats.
    """
    outcomes_P = pair_outcomes(scores)
    results_P = pair_results(outcomes_P, kind)
    gaps_P = np.array([len(better) - len(worse) for better, worse in texts], dtype=np.float64)
    seats = {} if symmetric else {rate.__name__: _rate(rate(scores)) for rate in (order_flip_rate, first_seat_rate)}
    rates = {rate.__name__: _rate(rate(scores)) for rate in (tie_rate, failure_rate)}
    failures: dict[str, int] = {}
    for score in scores:
        for cause, number in score.failures.items():
            failures[cause] = failures.get(cause, 0) + number
    result: dict[str, Any] = {
        "num_pairs": len(scores),
        "num_missing": int(np.isnan(outcomes_P).sum()),
        "accuracy": estimate_json(share(results_P)),
        "length_controlled_accuracy": estimate_json(_length_controlled(results_P, gaps_P, seed)),
        "longer_is_better_rate": estimate_json(share(0.5 + np.sign(gaps_P) / 2.0)),
        "verdict_accuracy": estimate_json(verdict_accuracy(scores)),
        "kappa": estimate_json(human_kappa(scores, symmetric=symmetric, seed=seed)),
        **seats,
        **rates,
        "num_calls": sum(score.num_calls for score in scores),
        "num_cached": sum(score.num_cached for score in scores),
        "num_failed": sum(score.num_failed for score in scores),
        "failures": dict(sorted(failures.items())),
    }
    if kind == "probability":
        error, bins = calibration_error(outcomes_P, seed=seed)
        result |= {"brier": estimate_json(brier_score(outcomes_P, seed=seed))}
        result |= {"expected_calibration_error": estimate_json(error), "calibration_bins": bins}
    elif kind == "score":
        result["accuracy_by_margin"] = [
            {"max_margin": margin, **estimate_json(found)} for margin, found in accuracy_by_margin(outcomes_P)
        ]
    return result


def _length_controlled(results_P: FloatArray, gaps_P: FloatArray, seed: int) -> Estimate:
    """Accuracy if both answers were equally long, in characters; interval by drawing pairs again.

    Where all results are the same they say nothing of the length, and the interval is the whole range.
    """
    there_P = ~np.isnan(results_P)
    results_P, gaps_P = results_P[there_P], gaps_P[there_P]
    value = length_controlled_win_rate(results_P, gaps_P)
    num = len(results_P)
    if value is None or np.ptp(results_P) == 0.0:
        return Estimate(value, 0.0, 1.0, num)
    drawn_RP = np.random.default_rng(seed).integers(num, size=(NUM_LENGTH_RESAMPLES, num))
    values = [length_controlled_win_rate(results_P[drawn_P], gaps_P[drawn_P]) for drawn_P in drawn_RP]
    low, high = np.quantile(np.array(values, dtype=np.float64), [0.025, 0.975])
    return Estimate(value, float(low), float(high), num)


def _rate(rate: Rate) -> dict[str, float | int | None]:
    low, high = rate.interval()
    return {"value": rate.value, "low": low, "high": high, "num": rate.total}


def audit_text(result: dict[str, Any]) -> str:
    """The figures, for people."""
    rows = [
        ("accuracy (ties count half)", "accuracy"),
        ("  if both were equally long", "length_controlled_accuracy"),
        ("  of 'the longer one'", "longer_is_better_rate"),
        ("right single verdicts", "verdict_accuracy"),
        ("Cohen's kappa of these", "kappa"),
        ("order flips", "order_flip_rate"),
        ("first seat wins", "first_seat_rate"),
        ("ties", "tie_rate"),
        ("failed calls", "failure_rate"),
        ("Brier score", "brier"),
        ("expected calibration error", "expected_calibration_error"),
    ]
    missing = f", {result['num_missing']} without a verdict" if result["num_missing"] else ""
    lines = [f"{result['judge']} ({result['verdict']}): {result['num_pairs']} pairs{missing}"]
    lines += [f"{title:<28}{shown(result[key])}" for title, key in rows if key in result]
    lines += [f"  |score| to {row['max_margin']:<16.4g} {shown(row)}" for row in result.get("accuracy_by_margin", ())]
    for row in result.get("calibration_bins", ()):
        lines.append(
            f"  confidence {row['low']:.1f} to {row['high']:.1f}: says {row['confidence']:.3f}, "
            f"is right {row['accuracy']:.3f}, {row['num_pairs']:.0f} pairs"
        )
    lines += attack_lines(result["attacks"])
    lines += [f"  failed: {cause:<19}{number}" for cause, number in result["failures"].items()]
    for judge, spent in result["judges"].items():
        lines.append(
            f"{judge}: {spent['num_calls']:.0f} calls, {spent['num_cached']:.0f} from the cache, "
            f"{spent['tokens_in']:.0f} tokens in, {spent['tokens_out']:.0f} out, cost {spent['cost']:.4g}"
        )
    return "\n".join(lines)
