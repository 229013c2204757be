"""Is the judge right? Its verdicts on pairs whose better answer is known; slot 0 of each group is the better one.

Both orders, and all judges of a panel, are merged by their mean, as `Match.outcome` does: the outcome of a pair. It is
seen from the better answer. A pair without a verdict is NaN and in no figure.
Shapes: P pairs, C calls of a pair, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.aggregators.votes import FloatArray
from rewards.diagnostics.agreement import Outcomes, pairwise_agreement
from rewards.diagnostics.bootstrap import Estimate, estimate, ratio
from rewards.health import wilson_interval
from rewards.types import GroupScore, VerdictKind

NUM_BINS = 5
"""Of the confidence, from 1/2 to 1."""
NUM_QUANTILES = 4

JUDGE, HUMAN = "judge", "human"


def pair_outcomes(scores: Sequence[GroupScore]) -> FloatArray:
    """outcomes_P: the merged verdict on each pair; NaN where every call failed."""
    said = [next((match.outcome(score.kind or "hard") for match in score.matches), None) for score in scores]
    return np.array([np.nan if value is None else value for value in said], dtype=np.float64)


def pair_results(outcomes_P: FloatArray, kind: VerdictKind) -> FloatArray:
    """results_P: 1 the better answer won, 0 the worse, 0.5 level, NaN missing."""
    level = 0.0 if kind == "score" else 0.5
    return np.where(np.isnan(outcomes_P), np.nan, 0.5 + np.sign(outcomes_P - level) / 2.0)


def share(results_P: FloatArray) -> Estimate:
    """Mean of numbers in [0, 1], those that are NaN left out, with Wilson's interval."""
    there_P = results_P[~np.isnan(results_P)]
    low, high = wilson_interval(float(there_P.sum()), len(there_P))
    return Estimate(float(there_P.mean()) if len(there_P) else None, low, high, len(there_P))


def verdict_results(score: GroupScore) -> FloatArray:
    """Single verdicts of a pair, [C, 2]: 1 right, 0.5 level, 0 wrong; and whether the better answer was shown first."""
    level = 0.0 if score.kind == "score" else 0.5
    rows: list[tuple[float, float]] = []
    for match in score.matches:
        for call in match.calls:
            if (value := call.verdict.value) is not None:
                for_first = 0.5 + np.sign(value - level) / 2.0
                better_first = call.first == 0
                rows.append((for_first if better_first else 1.0 - for_first, float(better_first)))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def verdict_accuracy(scores: Sequence[GroupScore]) -> Estimate:
    """Share of right single verdicts, each pair weighing the same; the interval counts pairs, not verdicts."""
    results = [verdict_results(score)[:, 0] for score in scores]
    return share(np.array([result.mean() if len(result) else np.nan for result in results], dtype=np.float64))


def human_kappa(scores: Sequence[GroupScore], *, symmetric: bool = False, seed: int = 0) -> Estimate:
    """Cohen's kappa of single verdicts and the known ones, by seats: each says first or second, and one is right.

    A judge that always names one seat has kappa 0, whatever its share. The interval draws pairs again.

    Args:
        symmetric: the judge would say the same in the other order, so each verdict stands for both.
    """
    rows: list[FloatArray] = []
    for score in scores:
        right_C, first_C = verdict_results(score).T
        for_first_C = np.where(first_C == 1.0, right_C, 1.0 - right_C)
        said_C2 = np.stack([for_first_C, first_C], axis=-1)
        rows.append(np.concatenate([said_C2, 1.0 - said_C2]) if symmetric else said_C2)
    return pairwise_agreement(Outcomes((JUDGE, HUMAN), tuple(rows)), seed=seed)[JUDGE, HUMAN].kappa


def brier_score(outcomes_P: FloatArray, *, seed: int = 0) -> Estimate:
    """Mean (1 - P(better wins))^2 (Brier 1950) of a judge that gives probabilities; always saying 1/2 gives 1/4."""
    there_P = outcomes_P[~np.isnan(outcomes_P)]
    sums_P2 = np.stack([(1.0 - there_P) ** 2, np.ones_like(there_P)], axis=-1)
    return estimate(sums_P2, ratio, bounds=(0.0, 1.0), seed=seed)


def calibration_error(
    outcomes_P: FloatArray, *, num_bins: int = NUM_BINS, seed: int = 0
) -> tuple[Estimate, list[dict[str, float]]]:
    """Expected calibration error (Naeini et al. 2015) of a judge that gives probabilities, and its bins.

    A pair's confidence is the probability of the side that the judge favours, 1/2 to 1; a bin holds its mean against
    the share of pairs on which that side is the better one (1/2 for a probability of 1/2). The error is biased upwards
    where bins are small.

    Returns:
        the error, and a row per bin that is not empty: low, high, num_pairs, confidence, accuracy.
    """
    there_P = outcomes_P[~np.isnan(outcomes_P)]
    confidence_P = np.maximum(there_P, 1.0 - there_P)
    bin_P = np.minimum(((confidence_P - 0.5) * 2.0 * num_bins).astype(np.int64), num_bins - 1)
    in_bin_PB = bin_P[:, None] == np.arange(num_bins)
    columns_P3 = np.stack([np.ones_like(there_P), confidence_P, pair_results(there_P, "probability")], axis=-1)
    sums_PB3 = in_bin_PB[:, :, None] * columns_P3[:, None, :]

    def error(sums: FloatArray) -> FloatArray:
        table = sums.reshape(*sums.shape[:-1], num_bins, 3)
        gaps = np.abs(table[..., 1] - table[..., 2]).sum(-1)
        return gaps / table[..., 0].sum(-1)

    bins = [
        {
            "low": 0.5 + b / (2.0 * num_bins),
            "high": 0.5 + (b + 1) / (2.0 * num_bins),
            "num_pairs": num,
            "confidence": confidence / num,
            "accuracy": right / num,
        }
        for b, (num, confidence, right) in enumerate(sums_PB3.sum(0).tolist())
        if num
    ]
    return estimate(sums_PB3.reshape(len(there_P), num_bins * 3), error, bounds=(0.0, 1.0), seed=seed), bins


def accuracy_by_margin(outcomes_P: FloatArray, *, num_quantiles: int = NUM_QUANTILES) -> list[tuple[float, Estimate]]:
    """For scores, whose unit is the judge's own: accuracy where |score| is in each quantile, from the smallest on.

    A judge whose scores say how sure it is gets better from row to row.

    Returns:
        the largest |score| of the quantile, and the accuracy in it; fewer rows where there are fewer pairs.
    """
    there_P = outcomes_P[~np.isnan(outcomes_P)]
    ordered_P = there_P[np.argsort(np.abs(there_P), kind="stable")]
    parts = np.array_split(ordered_P, num_quantiles)
    return [(float(np.abs(part[-1])), share(pair_results(part, "score"))) for part in parts if len(part)]
