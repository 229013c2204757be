"""How far a score judge is off about a rollout, from judging the same rollouts again (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.aggregators.score_strengths import fit_scores
from rewards.aggregators.votes import verdict_table
from rewards.errors import UserError
from rewards.types import MatchLog


def score_error(repeats: Sequence[Sequence[MatchLog]]) -> float:
    """Standard deviation t of the judge's error per rollout, for `rewards.aggregator.score_error`.

        t^2 = mean over groups of (variance of a strength over the repeats, summed over N) / (N - 1)  -  verdict noise

    Args:
        repeats: for every group, two or more match logs of `score` verdicts about the same rollouts. The repeats must
            differ in what the judge may get wrong: another wording of its prompt, other criteria, another judge of the
            same scale. A judge that is asked the same question twice repeats its error, and none is seen.

    Returns:
        t in the judge's units; 0 where the repeats differ no more than the verdicts' own noise explains.

    Raises:
        UserError: a group without two repeats in which every rollout has a verdict, or other verdicts than scores.
    """
    total, freedom = 0.0, 0
    for number, logs in enumerate(repeats):
        if len(logs) < 2:
            raise UserError(f"score_error: group {number} has {len(logs)} repeats; judge it at least twice")
        if any(log.kind != "score" for log in logs):
            raise UserError(
                f"score_error: group {number} has {logs[0].kind} verdicts; only scores have an error in units"
            )
        size = logs[0].num_candidates
        fits = [fit_scores([verdict_table(log)]) for log in logs]
        if any(
            len(fit.fits[0].candidates_N) < size or log.num_candidates != size
            for fit, log in zip(fits, logs, strict=True)
        ):
            raise UserError(f"score_error: group {number} has rollouts without a verdict; judge all in every repeat")
        strengths_RN = np.stack([fit.fits[0].strengths_N for fit in fits])
        strengths_RN = strengths_RN - strengths_RN.mean(1, keepdims=True)
        noise = np.mean([(fit.noise_variance or 0.0) * fit.fits[0].spread_N.sum() for fit in fits])
        total += float(strengths_RN.var(0, ddof=1).sum() - noise)
        freedom += size - 1
    if not freedom:
        raise UserError("score_error: no group to learn from")
    return float(np.sqrt(max(0.0, total / freedom)))
