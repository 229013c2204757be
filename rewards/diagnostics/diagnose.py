"""Every diagnostic of a batch as flat metrics."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.diagnostics.agreement import judge_outcomes, krippendorff_alpha, pairwise_agreement
from rewards.diagnostics.audited import audited_metrics
from rewards.diagnostics.bootstrap import NUM_RESAMPLES
from rewards.diagnostics.correlations import within_group_correlation
from rewards.diagnostics.cycles import circular_triad_rate, conflict_rate, consistence
from rewards.diagnostics.informativeness import anchor_informativeness, informativeness
from rewards.diagnostics.style import style_correlations
from rewards.health import judge_health
from rewards.types import GroupScore


def diagnose(
    scores: Sequence[GroupScore],
    *,
    texts: Sequence[Sequence[str]] | None = None,
    num_tokens: Sequence[Sequence[int]] | None = None,
    anchors: int | Sequence[int] | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, float]:
    """All that can be said of a batch: each figure `x` with its 95 % interval `x_low`, `x_high`; others are left out.

    `judge_health` (order_flip_rate, tie_rate, first_seat_rate, failure_rate, counts), circular_triad_rate, consistence,
    conflict_rate, informativeness; length_correlation with `num_tokens`; style_FEATURE_correlation and
    style_FEATURE_partial_correlation with `texts`; anchor_informativeness with `anchors`; with several judges
    judge_alpha, and judge_share:A:B and judge_kappa:A:B of every two; what `audited_metrics` says.

    Args:
        scores: the groups of a batch.
        texts, num_tokens: per group, per slot.
        anchors: slot of the anchor, one for all groups or one per group.
        seed: of the bootstraps.
    """
    metrics = judge_health(scores, intervals=True)
    conflicts = conflict_rate(scores)
    if conflicts.value is not None:
        low, high = conflicts.interval()
        metrics |= {"conflict_rate": conflicts.value, "conflict_rate_low": low, "conflict_rate_high": high}
    for figure in (circular_triad_rate, consistence, informativeness):
        metrics |= figure(scores, seed=seed, num_resamples=num_resamples).metrics(figure.__name__)
    if anchors is not None:
        found = anchor_informativeness(scores, anchors, seed=seed, num_resamples=num_resamples)
        metrics |= found.metrics("anchor_informativeness")
    rewards = [score.rewards for score in scores]
    if num_tokens is not None:
        length = within_group_correlation(rewards, num_tokens, seed=seed, num_resamples=num_resamples)
        metrics |= length.metrics("length_correlation")
    if texts is not None:
        for name, style in style_correlations(rewards, texts, seed=seed, num_resamples=num_resamples).items():
            metrics |= style.plain.metrics(f"style_{name}_correlation")
            metrics |= style.partial.metrics(f"style_{name}_partial_correlation")
    outcomes = judge_outcomes(scores)
    if len(outcomes.judges) > 1:
        metrics |= krippendorff_alpha(outcomes, seed=seed, num_resamples=num_resamples).metrics("judge_alpha")
        for pair, agreement in pairwise_agreement(outcomes, seed=seed, num_resamples=num_resamples).items():
            metrics |= agreement.share.metrics(":".join(("judge_share", *pair)))
            metrics |= agreement.kappa.metrics(":".join(("judge_kappa", *pair)))
    return metrics | audited_metrics(scores, seed=seed, num_resamples=num_resamples)
