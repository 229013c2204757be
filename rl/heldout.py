"""Held-out games as a run plays them: sample, pair with the starting model's answers, judge, count.

start answers (policy version 0, kept) --slot 0--+
                                                  +--> group of two per pair --> sink (the training judge's arena)
current answers ------------------------slot 1--+                          --> audit sink (another judge), last time
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewards.types import Candidate, GroupKey, GroupScore, GroupSink
from rl.config import EvaluationConfig
from rl.evaluation import compare_lengths, outcome_of, summarize_heldout
from rollouts.types import Group, Rollout

OPPONENT_NAME = "starting model"


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Answer `index` of both policies to one held-out prompt."""

    before: Rollout
    after: Rollout
    group: Group
    index: int

    @property
    def key(self) -> GroupKey:
        return GroupKey(f"heldout-{self.group.prompt.id}-{self.index}")


def pair_answers(before: Sequence[Group], after: Sequence[Group]) -> list[Pair]:
    """Pairs of equal prompt and index; a pair that lost an answer is left out (`tally` still counts its prompt).

    Raises:
        ValueError: other prompts in `after` than in `before`, or another order or number of answers.
    """
    for old_group, group in zip(before, after, strict=True):
        if old_group.prompt.id != group.prompt.id:
            raise ValueError(f"prompt {group.prompt.id} stands where the starting model answered {old_group.prompt.id}")
    return [
        Pair(old, new, group, index)
        for old_group, group in zip(before, after, strict=True)
        for index, (old, new) in enumerate(zip(old_group.rollouts, group.rollouts, strict=True))
        if old is not None and new is not None
    ]


async def judge_pairs(pairs: Sequence[Pair], sink: GroupSink) -> dict[GroupKey, GroupScore]:
    """Every pair as a group of two: slot 0 the starting model, slot 1 the current policy."""
    for pair in pairs:
        await sink.open(pair.key, pair.group.prompt, 2)
        await sink.add(pair.key, 0, _candidate(pair.before, f"{pair.key}/before"))
        await sink.add(pair.key, 1, _candidate(pair.after, f"{pair.key}/after"))
        await sink.close(pair.key)
    return await sink.scores()


@dataclass(frozen=True, slots=True, eq=False)
class Games:
    """One evaluation of `pairs`: `result` for summary.json, `metrics` for the step's row, `rows` for its table.

    ungated: per pair, whether both answers passed every gate and no router decided, so that the judge alone did.
    """

    pairs: Sequence[Pair]
    result: dict[str, Any]
    mean_length: dict[str, float]
    outcomes: list[float | None]
    ungated: list[bool]
    metrics: dict[str, float]
    rows: list[dict[str, Any]]
    num_calls: int


def tally(
    prompt_ids: Sequence[str],
    pairs: Sequence[Pair],
    scores: Mapping[GroupKey, GroupScore],
    config: EvaluationConfig,
    *,
    seed: int,
) -> Games:
    """Win rate over prompts with its interval, lengths, and a row per pair.

    Args:
        prompt_ids: all held-out prompts; one whose pairs all lost an answer counts as unscored.

    Raises:
        RunStopped: no prompt has an outcome.
    """
    outcomes = [outcome_of(scores[pair.key]) for pair in pairs]
    ungated = [not scores[pair.key].gate_failures and not _routed(scores[pair.key]) for pair in pairs]
    by_prompt: dict[str, list[float | None]] = {prompt_id: [] for prompt_id in prompt_ids}
    for pair, outcome in zip(pairs, outcomes, strict=True):
        by_prompt[pair.group.prompt.id].append(outcome)
    heldout = summarize_heldout(
        list(by_prompt.values()), opponent=OPPONENT_NAME, num_resamples=config.bootstrap, seed=seed
    )
    judged = judged_alone(pairs, outcomes, ungated, config, seed=seed)
    lengths = compare_lengths([pair.before.num_tokens for pair in pairs], [pair.after.num_tokens for pair in pairs])
    num_gated = {side: sum(_gated(scores[pair.key], side) for pair in pairs) for side in (0, 1)}
    metrics = {
        "heldout/win_rate": heldout.win_rate,
        "heldout/ci95_low": heldout.ci95[0],
        "heldout/ci95_high": heldout.ci95[1],
        "heldout/mean_tokens": lengths.after,
        "heldout/mean_tokens_before": lengths.before,
        "heldout/gated_fraction": num_gated[1] / len(pairs),
        "heldout/gated_fraction_before": num_gated[0] / len(pairs),
        **_criterion_rates([scores[pair.key] for pair in pairs]),
    }
    figures = _mean_figures(pairs, scores)
    for name, figure in figures.items():
        metrics.setdefault(f"heldout/{name}", figure["after"])  # no figure hides a win rate
        metrics.setdefault(f"heldout/{name}_before", figure["before"])
    rows = [
        {
            "prompt_id": pair.group.prompt.id,
            "index": pair.index,
            "prompt": pair.group.prompt.text,
            "before": pair.before.text,
            "after": pair.after.text,
            "outcome": outcome,
            "before_tokens": pair.before.num_tokens,
            "after_tokens": pair.after.num_tokens,
            "before_gated": _gated(scores[pair.key], 0),
            "after_gated": _gated(scores[pair.key], 1),
        }
        for pair, outcome in zip(pairs, outcomes, strict=True)
    ]
    return Games(
        pairs=pairs,
        result=heldout.to_json() | {"judged": judged} | ({"figures": figures} if figures else {}),
        mean_length=lengths.to_json(),
        outcomes=outcomes,
        ungated=ungated,
        metrics=metrics,
        rows=rows,
        num_calls=sum(score.num_calls for score in scores.values()),
    )


def _mean_figures(pairs: Sequence[Pair], scores: Mapping[GroupKey, GroupScore]) -> dict[str, dict[str, float]]:
    """Means over the answers of both policies: of the reward where it is a metric's own value, and of every figure.

    A figure that either side never has is left out.
    """
    columns: dict[str, tuple[list[float], list[float]]] = {}
    for pair in pairs:
        score = scores[pair.key]
        values = dict(score.figures) | ({"reward": score.rewards} if score.kind is None else {})
        for name, both in values.items():
            for side, value in zip(columns.setdefault(name, ([], [])), both, strict=True):
                if value is not None:
                    side.append(value)
    return {
        name: {"before": float(np.mean(before)), "after": float(np.mean(after))}
        for name, (before, after) in columns.items()
        if before and after
    }


def judged_alone(
    pairs: Sequence[Pair],
    outcomes: Sequence[float | None],
    ungated: Sequence[bool],
    config: EvaluationConfig,
    *,
    seed: int,
) -> dict[str, Any] | None:
    """Win rate over the pairs that no gate decided: keeping to the rules is no part of it. None without such pairs."""
    by_prompt: dict[str, list[float | None]] = {}
    for pair, outcome, judged in zip(pairs, outcomes, ungated, strict=True):
        if judged and outcome is not None:
            by_prompt.setdefault(pair.group.prompt.id, []).append(outcome)
    if not by_prompt:
        return None
    result = summarize_heldout(
        list(by_prompt.values()), opponent=OPPONENT_NAME, num_resamples=config.bootstrap, seed=seed
    ).to_json()
    return {name: result[name] for name in ("win_rate", "ci95", "num_prompts", "num_pairs")}


def _routed(score: GroupScore) -> bool:
    """Whether a router decided the pair by what a gate measured."""
    return any(call.is_routed for match in score.matches for call in match.calls)


def _criterion_rates(scores: Sequence[GroupScore]) -> dict[str, float]:
    """How often the current policy wins each criterion of a rubric, over the pairs that have a verdict on it."""
    rates: dict[str, list[float]] = {}
    for score in scores:
        for name, by_slot in score.per_criterion.items():
            if (rate := by_slot[1]) is not None:
                rates.setdefault(name, []).append(rate)
    return {f"heldout/criterion/{name}": sum(own) / len(own) for name, own in sorted(rates.items())}


def _gated(score: GroupScore, slot: int) -> bool:
    return any(slot in slots for slots in score.gate_failures.values())


def _candidate(rollout: Rollout, name: str) -> Candidate:
    text = rollout.parsed.parts.get("answer", rollout.text)
    return Candidate(id=name, text=text, num_tokens=rollout.num_tokens, parsed=rollout.parsed)
