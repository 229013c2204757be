"""Held-out games: the current policy against an opponent, as a win rate with its interval.

Inside a training group the mean win rate is always one half, so progress is measured here: on every held-out prompt the
opponent's answer i (slot 0) meets the current policy's answer i (slot 1) in a group of two, judged in both orders.

    GroupScore --outcome_of--> 1 / 0.5 / 0 / None per pair --per prompt--> mean --over prompts--> win rate, bootstrap

Shapes: P prompts with an outcome, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rewards.errors import RunStopped
from rewards.types import GroupScore

OPPONENT, CURRENT = 0, 1
"""Slots of a held-out pair's group."""

RESAMPLED_AT_ONCE = 1_000_000
"""Prompts drawn in one array: 8 MB of indices."""


def outcome_of(score: GroupScore) -> float | None:
    """Who won a pair, seen from the current policy: 1, 0.5 or 0; None where the judge gave no verdict.

    A gate decides before the judge: an answer that failed one loses, two that did are level. Without matches (rewards
    that are one number per rollout) the higher reward wins. Both answers must exist: leave out pairs that lost one.

    Raises:
        ValueError: not a group of two, or one that met more than once.
    """
    if len(score.rewards) != 2 or len(score.matches) > 1:
        raise ValueError(f"a held-out pair is 2 rollouts in 1 match, got {len(score.rewards)} in {len(score.matches)}")
    failed = {slot for slots in score.gate_failures.values() for slot in slots}
    if failed:
        return 0.5 if len(failed) == 2 else float(OPPONENT in failed)
    if score.matches and score.kind is not None:
        result = score.matches[0].result(score.kind)
        return None if result is None else 1.0 - result  # a match is seen from its lower slot, the opponent's
    opponent, current = score.rewards[OPPONENT], score.rewards[CURRENT]
    if opponent is None or current is None:
        return None
    return 0.5 if current == opponent else float(current > opponent)


@dataclass(frozen=True, slots=True)
class HeldoutResult:
    """Held-out games against one opponent.

    win_rate: mean over prompts of the mean outcome of their pairs; a tie counts one half. ci95: its 95 % interval.
    num_prompts: those with at least one outcome, over which the win rate is taken; num_unscored: those without.
    """

    win_rate: float
    ci95: tuple[float, float]
    num_prompts: int
    num_unscored: int
    num_pairs: int
    opponent: str

    def to_json(self) -> dict[str, Any]:
        return {
            "win_rate": self.win_rate,
            "ci95": list(self.ci95),
            "num_prompts": self.num_prompts,
            "num_unscored": self.num_unscored,
            "num_pairs": self.num_pairs,
            "opponent": self.opponent,
        }


def summarize_heldout(
    outcomes: Sequence[Sequence[float | None]], *, opponent: str, num_resamples: int, seed: int
) -> HeldoutResult:
    """Win rate and interval of a list of outcomes per prompt; None = no verdict, left out.

    Raises:
        RunStopped: no prompt has an outcome.
    """
    decided = [[outcome for outcome in pairs if outcome is not None] for pairs in outcomes]
    per_prompt_P = np.array([np.mean(pairs) for pairs in decided if pairs], dtype=np.float64)
    if len(per_prompt_P) == 0:
        raise RunStopped(
            f"evaluation against {opponent}: the judge gave no verdict on any of {len(outcomes)} held-out prompts; "
            "check the judge, then resume the run"
        )
    return HeldoutResult(
        win_rate=float(per_prompt_P.mean()),
        ci95=bootstrap_ci95(per_prompt_P, num_resamples=num_resamples, seed=seed),
        num_prompts=len(per_prompt_P),
        num_unscored=len(outcomes) - len(per_prompt_P),
        num_pairs=sum(len(pairs) for pairs in decided),
        opponent=opponent,
    )


def bootstrap_ci95(per_prompt_P: npt.ArrayLike, *, num_resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean over prompts in [0, 1], prompts being what is drawn again.

    Percentiles 2.5 and 97.5 of the means of `num_resamples` draws of P prompts with replacement (Efron and Tibshirani
    1993, ch. 13). One prompt says nothing of others: its interval is (0, 1).
    """
    values_P = np.asarray(per_prompt_P, dtype=np.float64)
    num_prompts = len(values_P)
    if num_prompts < 2:
        return (0.0, 1.0)
    rng = np.random.default_rng(seed)
    means_R = np.empty(num_resamples)
    rows = max(1, RESAMPLED_AT_ONCE // num_prompts)
    for start in range(0, num_resamples, rows):
        stop = min(start + rows, num_resamples)
        means_R[start:stop] = values_P[rng.integers(0, num_prompts, size=(stop - start, num_prompts))].mean(axis=1)
    low, high = np.quantile(means_R, [0.025, 0.975])
    return (float(low), float(high))


@dataclass(frozen=True, slots=True)
class LengthChange:
    """Mean answer tokens of the opponent (`before`) and of the current policy (`after`)."""

    before: float
    after: float

    def to_json(self) -> dict[str, float]:
        return {"before": self.before, "after": self.after}


def compare_lengths(before: Sequence[int], after: Sequence[int]) -> LengthChange:
    """Raises ValueError where a side has no answers."""
    if not before or not after:
        raise ValueError("mean length of no answers")
    return LengthChange(before=float(np.mean(before)), after=float(np.mean(after)))


@dataclass(frozen=True, slots=True)
class JudgeAgreement:
    """How far two judges say the same of the same pairs.

    share: pairs on which both give the same outcome (win, tie or loss). kappa: Cohen's (1960), agreement beyond what
    the two judges' own frequencies give by chance; None where chance alone already agrees always, or without pairs.
    num_pairs: pairs that both judges decided.
    """

    share: float | None
    kappa: float | None
    num_pairs: int

    def to_json(self) -> dict[str, float | int | None]:
        return {"share": self.share, "kappa": self.kappa, "num_pairs": self.num_pairs}


def judge_agreement(first: Sequence[float | None], second: Sequence[float | None]) -> JudgeAgreement:
    """Agreement of two judges' outcomes (1, 0.5, 0, None), pair by pair; pairs that one left undecided are left out.

    Kappa is low where one policy nearly always wins, whatever the share: read the two together.

    Raises:
        ValueError: lists of unequal length, or an outcome other than 1, 0.5, 0 and None.
    """
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not {outcome for pair in both for outcome in pair} <= {0.0, 0.5, 1.0}:
        raise ValueError("outcomes must be 1, 0.5, 0 or None")
    if not both:
        return JudgeAgreement(share=None, kappa=None, num_pairs=0)
    outcomes_NJ = np.array(both)
    share = float(np.mean(outcomes_NJ[:, 0] == outcomes_NJ[:, 1]))
    frequencies_OJ = np.array([(outcomes_NJ == outcome).mean(axis=0) for outcome in (0.0, 0.5, 1.0)])
    by_chance = float(frequencies_OJ.prod(axis=1).sum())
    kappa = (share - by_chance) / (1 - by_chance) if by_chance < 1 else None
    return JudgeAgreement(share=share, kappa=kappa, num_pairs=len(both))
