"""What is asked to learn about the judge while it trains: a second judge's word, and pairs whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.diagnostics.agreement import Agreement, Outcomes, decided_pairs, pairwise_agreement
from rewards.diagnostics.bootstrap import NUM_RESAMPLES, Estimate
from rewards.diagnostics.known_pairs import share
from rewards.types import GroupScore

JUDGE, AUDIT = "judge", "audit"


def audit_agreement(scores: Sequence[GroupScore], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Agreement:
    """How far a second judge says the same of the pairs that it was asked about; a bootstrap over groups.

    Outcomes (1, 0.5, 0) are compared, each judge's calls about a pair merged by their mean; pairs that it gave no
    verdict on are left out.
    """
    groups: list[np.ndarray] = []
    for score in scores:
        decided, rows = decided_pairs(score), []
        for match in score.audit.matches if score.audit is not None else ():
            second = match.result(score.audit.kind) if score.audit is not None else None
            rows.append((decided[match.pairing], np.nan if second is None else second))
        groups.append(np.array(rows, dtype=np.float64).reshape(-1, 2))
    outcomes = Outcomes((JUDGE, AUDIT), tuple(groups))
    return pairwise_agreement(outcomes, seed=seed, num_resamples=num_resamples)[JUDGE, AUDIT]


def calibration_accuracy(scores: Sequence[GroupScore], judge: str | None = None) -> Estimate:
    """Share of right verdicts on pairs with a known answer, a tie being half of one, with Wilson's interval.

    Args:
        judge: of this one only; None: of all.
    """
    answers = (answer for score in scores for answer in score.known_answers)
    results = [answer.result for answer in answers if judge in (None, answer.judge)]
    return share(np.array([np.nan if result is None else result for result in results], dtype=np.float64))


def audited_metrics(
    scores: Sequence[GroupScore], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> dict[str, float]:
    """audit_agreement, audit_kappa, num_audited, num_audit_calls, num_audit_failed, num_audit_unasked, audit_tokens and
    audit_cost where there is an audit; calibration_accuracy, num_calibrated, num_calibration_failed where there are
    known answers, and `<judge>/calibration_accuracy` where several judges gave them; figures with `_low` and `_high`.

    num_audited: pairs that both judges decided. num_calibrated: verdicts on known pairs.
    """
    metrics: dict[str, float] = {}
    audits = [score.audit for score in scores if score.audit is not None]
    if audits:
        calls = [call for audit in audits for match in audit.matches for call in match.calls]
        agreement = audit_agreement(scores, seed=seed, num_resamples=num_resamples)
        metrics |= agreement.share.metrics("audit_agreement") | agreement.kappa.metrics("audit_kappa")
        metrics["num_audited"] = float(agreement.num_matches)
        metrics["num_audit_calls"] = float(len(calls))
        metrics["num_audit_failed"] = float(sum(call.verdict.value is None for call in calls))
        metrics["audit_tokens"] = float(sum(call.verdict.tokens_in + call.verdict.tokens_out for call in calls))
        metrics["audit_cost"] = float(sum(call.verdict.cost for call in calls))
        metrics["num_audit_unasked"] = float(sum(audit.num_unasked for audit in audits))
    answers = [answer for score in scores for answer in score.known_answers]
    if answers:
        accuracy = calibration_accuracy(scores)
        metrics |= accuracy.metrics("calibration_accuracy")
        metrics["num_calibrated"] = float(accuracy.num_groups)
        metrics["num_calibration_failed"] = float(sum(answer.result is None for answer in answers))
        names = sorted({answer.judge for answer in answers})
        for name in names if len(names) > 1 else ():
            metrics |= calibration_accuracy(scores, name).metrics(f"{name}/calibration_accuracy")
    return metrics
