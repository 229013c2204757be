"""`podium rejudge RUN`: another judge, topology or aggregator over the groups of a run, held against what it said then.

groups/step_*.parquet --> candidates --> a sink of the other rewards, step by step --> scores after
scores then -----------------------------------------------------------------------> compare --> figures with intervals

Nothing of the run is changed; verdicts go to its cache, so that the next rejudging of the same asks less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from launch.reward_side import call_counter, needed_fields, open_reward_side
from launch.run_dir import RunDir
from launch.session import signals_cancel
from recipes.reward import LoadedRewards
from rewards.diagnostics.agreement import Outcomes, pairwise_agreement
from rewards.diagnostics.audited import calibration_accuracy
from rewards.diagnostics.bootstrap import Estimate, estimate, ratio
from rewards.errors import UserError
from rewards.types import GroupScore
from rollouts.types import Group, candidate_of

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, slots=True)
class GroupChange:
    """How one group's order changed, over the rollouts that both scored.

    tau: Kendall's tau-b of the rewards; None where one of the two has no order. num_pairs: pairs with unequal rewards
    in both, num_flips those of them that changed places.
    """

    tau: float | None
    num_flips: int
    num_pairs: int


def rejudge(run: RunDir, loaded: LoadedRewards, *, steps: Sequence[int] = ()) -> dict[str, Any]:
    """Judges the groups of `steps` (default: all) again; returns what `--json` prints.

    Raises:
        UserError: no such step, or prompts without a field that the rewards read.
        RunStopped: the judge is down.
    """
    kept = run.steps("groups")
    if missing := sorted(set(steps) - set(kept)):
        raise UserError(f"--step {missing[0]}: {run.path} has groups of steps {kept or 'none'}")
    chosen = sorted(set(steps)) or kept
    if not chosen:
        raise UserError(f"{run.path} has no groups yet; there is nothing to judge again")
    return asyncio.run(_rejudge(run, loaded, chosen))


async def _rejudge(run: RunDir, loaded: LoadedRewards, steps: Sequence[int]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    before: list[GroupScore] = []
    after: list[GroupScore] = []
    with signals_cancel(), call_counter(f"judging {len(steps)} steps again") as on_call:
        async with open_reward_side(loaded, run=run.path) as side:
            sink = side.sink(carry_prior=True, on_call=on_call)
            try:
                for step in steps:
                    groups, scores = run.load_groups(step)
                    _check_fields(groups, needed_fields(loaded.recipe.rewards))
                    again = await _judge(groups, sink)
                    rows += [_row(step, *one) for one in zip(groups, scores, again, strict=True)]
                    before += scores
                    after += again
            finally:
                await sink.stop()
            spent = side.ledger.summary().get("scoring", {})
    return {
        "run": str(run.path),
        "steps": list(steps),
        "num_calls": sum(score.num_calls for score in after),
        "num_cached": sum(score.num_cached for score in after),
        "num_failed": sum(score.num_failed for score in after),
        **summarize(before, after, seed=loaded.recipe.seed),
        "calibration_accuracy": _json(calibration_accuracy(after)),
        "judges": spent,
        "groups": rows,
    }


async def _judge(groups: Sequence[Group], sink: Any) -> list[GroupScore]:
    for group in groups:
        await sink.open(group.key, group.prompt, len(group.rollouts))
        for rollout in group.rollouts:
            if rollout is not None:
                await sink.add(group.key, rollout.index, candidate_of(rollout))
        await sink.close(group.key)
    scores = await sink.scores()
    return [scores[group.key] for group in groups]


def change(before: GroupScore, after: GroupScore) -> GroupChange:
    """Raises ValueError where the two are about different groups."""
    both = [(x, y) for x, y in zip(before.rewards, after.rewards, strict=True) if x is not None and y is not None]
    rewards_N2 = np.array(both, dtype=np.float64).reshape(-1, 2)
    tau = float(stats.kendalltau(*rewards_N2.T)[0]) if len(both) > 1 else float("nan")  # pyright: ignore[reportArgumentType]
    signs_2P = np.sign(np.stack([(column[:, None] - column)[np.triu_indices(len(both), 1)] for column in rewards_N2.T]))
    product_P = signs_2P.prod(0)
    return GroupChange(None if np.isnan(tau) else tau, int((product_P < 0).sum()), int((product_P != 0).sum()))


def summarize(before: Sequence[GroupScore], after: Sequence[GroupScore], *, seed: int) -> dict[str, Any]:
    """Mean tau and flip rate over groups, and agreement on the pairs that both judged; 95 % intervals over groups."""
    changes = [change(x, y) for x, y in zip(before, after, strict=True)]
    taus_G2 = np.array([[c.tau, 1.0] for c in changes if c.tau is not None]).reshape(-1, 2)
    flips_G2 = np.array([[c.num_flips, c.num_pairs] for c in changes], dtype=np.float64).reshape(-1, 2)
    said = tuple(_outcomes(x, y) for x, y in zip(before, after, strict=True))
    agreement = pairwise_agreement(Outcomes((BEFORE, AFTER), said), seed=seed)[BEFORE, AFTER]
    return {
        "num_groups": len(changes),
        "kendall_tau": _json(estimate(taus_G2, ratio, bounds=(-1.0, 1.0), seed=seed)),
        "flip_rate": _json(estimate(flips_G2, ratio, bounds=(0.0, 1.0), seed=seed)),
        "agreement": {
            "share": _json(agreement.share),
            "kappa": _json(agreement.kappa),
            "num_pairs": agreement.num_matches,
        },
    }


def summary_text(result: dict[str, Any]) -> str:
    """The figures, for people."""
    calls = f"{result['num_calls']} calls, {result['num_cached']} from the cache, {result['num_failed']} failed"
    lines = [
        f"{result['num_groups']} groups of {len(result['steps'])} steps, {calls}",
        f"Kendall's tau with the rewards then   {_shown(result['kendall_tau'])}",
        f"pairs that changed places             {_shown(result['flip_rate'])}",
    ]
    agreement = result["agreement"]
    if agreement["num_pairs"]:
        lines += [
            f"same outcome of a pair                {_shown(agreement['share'])}, {agreement['num_pairs']} pairs",
            f"Cohen's kappa                         {_shown(agreement['kappa'])}",
        ]
    if result["calibration_accuracy"]["value"] is not None:
        lines.append(f"known answers right                   {_shown(result['calibration_accuracy'])}")
    return "\n".join(lines)


def _shown(figure: dict[str, Any]) -> str:
    return "-" if figure["value"] is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _row(step: int, group: Group, before: GroupScore, after: GroupScore) -> dict[str, Any]:
    counts = {"num_calls": after.num_calls, "num_cached": after.num_cached, "num_failed": after.num_failed}
    rewards = {"rewards_before": before.rewards, "rewards_after": after.rewards, "reliability": after.reliability}
    key = {"step": step, "group_id": group.key.group_id, "attempt": group.key.attempt}
    return key | asdict(change(before, after)) | counts | rewards


def _outcomes(before: GroupScore, after: GroupScore) -> np.ndarray:
    """[pairs, 2]: 1, 0.5 or 0 for the lower slot, all meetings of the two merged; NaN where one did not judge them."""
    both = [_by_pair(before), _by_pair(after)]
    pairs = sorted(both[0].keys() | both[1].keys())
    return np.array([[said.get(pair, np.nan) for said in both] for pair in pairs], dtype=np.float64).reshape(-1, 2)


def _by_pair(score: GroupScore) -> dict[tuple[int, int], float]:
    results: dict[tuple[int, int], list[float]] = {}
    for match in score.matches if score.kind is not None else ():
        if (result := match.result(score.kind or "hard")) is not None:
            results.setdefault((match.pairing.a, match.pairing.b), []).append(result)
    return {pair: float(np.sign(np.mean(said) - 0.5) / 2.0 + 0.5) for pair, said in results.items()}


def _check_fields(groups: Sequence[Group], needed: Sequence[str]) -> None:
    for group in groups:
        for name in needed:
            if name not in group.prompt.fields:
                known = ", ".join(group.prompt.fields) or "none"
                raise UserError(
                    f"prompt {group.prompt.id} of the run has no field {name!r}, which the rewards read "
                    f"(it has: {known}); choose other rewards"
                )


def _json(figure: Estimate) -> dict[str, float | int | None]:
    return {"value": figure.value, "low": figure.low, "high": figure.high, "num_groups": figure.num_groups}
