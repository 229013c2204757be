"""Win rate: the mean outcome over the matches that have a verdict (Pref-GRPO, arXiv 2508.20751)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.types import MatchLog, Prior, Strengths


class WinRateAggregator:
    """reward_i = mean over i's matches of the outcome seen from i: both orders merged by their mean, 1/2 for level.

    A `score` outcome counts by its sign only. There is no prior. `min_verdicts`: a candidate with fewer is unscored.

    reliability = max(0, 1 - V0 / V), with V the variance of the group's win rates and V0 = mean of 1 / (4 num_matches),
    what coin flips would give: a lower bound on the share of V that is signal (ours).
    """

    def __init__(self, *, min_verdicts: int = 1) -> None:
        self._min_verdicts = min_verdicts

    def fit(self, logs: Sequence[MatchLog], prior: Prior | None = None) -> tuple[list[Strengths], Prior]:
        return [self._fit_group(log) for log in logs], {}

    def _fit_group(self, log: MatchLog) -> Strengths:
        outcomes = outcomes_by_candidate(log, self._min_verdicts)
        rewards = [float(np.mean(seen)) if seen else None for seen in outcomes]
        scored = [reward for reward in rewards if reward is not None]
        if not scored:
            return Strengths(rewards)
        spread = float(np.var(scored))
        coin_flips = float(np.mean([0.25 / len(seen) for seen in outcomes if seen]))
        return Strengths(rewards, reliability=max(0.0, 1.0 - coin_flips / spread) if spread > 0.0 else 0.0)


def outcomes_by_candidate(log: MatchLog, min_verdicts: int) -> list[list[float]]:
    """Outcomes of every candidate's matches, seen from it; empty for candidates with fewer than `min_verdicts`."""
    outcomes: list[list[float]] = [[] for _ in range(log.num_candidates)]
    num_verdicts = [0] * log.num_candidates
    for match in log.matches:
        outcome = match.result(log.kind) if log.kind == "score" else match.outcome(log.kind)
        if outcome is None:
            continue
        for candidate, seen in ((match.pairing.a, outcome), (match.pairing.b, 1.0 - outcome)):
            outcomes[candidate].append(seen)
            num_verdicts[candidate] += len(match.values(log.kind))
    scored = [count >= min_verdicts for count in num_verdicts]
    if sum(scored) < 2:
        return [[] for _ in outcomes]
    return [seen if enough else [] for seen, enough in zip(outcomes, scored, strict=True)]
