"""The default aggregator: posterior win probabilities under a prior whose scale is learned from the batch (ours).

GRPO divides by a group's spread, which blows a judge's coin flips up to full size. Here a group's strengths have an
unknown scale s from a grid; how common each scale is, is learned from the batch by EM. A group that the judge cannot
tell apart is given small scales and rewards near 1/2:

    reward_i = sum_s r(s) * mean over scored j != i of E[P(i beats j) | s],   r(s) ~ pi(s) Z(s)
    reliability = V / (V + mean posterior variance of the rewards),           V = variance of the group's rewards

`score` verdicts are not votes: their rewards are centred strengths on a batch-wide scale, see `score_strengths`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators.prior import BatchPrior
from rewards.aggregators.score_strengths import fit_scores
from rewards.aggregators.vote_strengths import fit_votes
from rewards.aggregators.votes import asked_one_order, batch_kind, collect_votes, probability_weight, scored_candidates
from rewards.config import EmpiricalBayes
from rewards.types import MatchLog, Prior, Strengths


class EmpiricalBayesAggregator:
    """See the module's docstring. `min_verdicts`: a candidate with fewer is unscored; its verdicts still count."""

    def __init__(self, config: EmpiricalBayes | None = None, *, min_verdicts: int = 1) -> None:
        self._config = config or EmpiricalBayes()
        self._min_verdicts = min_verdicts

    def fit(self, logs: Sequence[MatchLog], prior: Prior | None = None) -> tuple[list[Strengths], Prior]:
        """Scores a batch of groups. See `BatchPrior` for what the prior holds and its default.

        Raises:
            UserError: the prior was learned on another grid of scales.
        """
        learned = BatchPrior.read(prior, self._config.scales)
        if batch_kind(logs) == "score":
            strengths, learned = self._fit_scores(logs, learned)
        else:
            strengths, learned = self._fit_votes(logs, learned)
        return strengths, learned.to_json()

    def _fit_votes(self, logs: Sequence[MatchLog], learned: BatchPrior) -> tuple[list[Strengths], BatchPrior]:
        votes = [collect_votes(log) for log in logs]
        scored = [scored_candidates(vote.num_verdicts_N, self._min_verdicts) for vote in votes]
        weight = probability_weight(votes) if batch_kind(logs) == "probability" else 1.0
        weighted = [replace(v, values_NN=weight * v.values_NN, counts_NN=weight * v.counts_NN) for v in votes]
        readings, learned = fit_votes(
            weighted, scored, learned, decay=self._config.prior_decay, with_seat_bias=asked_one_order(logs)
        )
        strengths: list[Strengths] = []
        for log, vote, scored_N, reading in zip(logs, votes, scored, readings, strict=True):
            if reading is None or not scored_N.any():
                strengths.append(_unscored(log))
                continue
            signal = float(reading.rewards_N[scored_N].var())
            noise = float(reading.reward_variance_N[scored_N].mean())
            slots = vote.candidates_N[scored_N]
            strengths.append(
                Strengths(
                    rewards=_in_slots(log, slots, reading.rewards_N[scored_N]),
                    reliability=signal / (signal + noise),
                    strengths=_in_slots(log, slots, reading.strengths_N[scored_N]),
                    stderrs=_in_slots(log, slots, np.sqrt(reading.strength_variance_N[scored_N])),
                )
            )
        return strengths, learned

    def _fit_scores(self, logs: Sequence[MatchLog], learned: BatchPrior) -> tuple[list[Strengths], BatchPrior]:
        batch = fit_scores(logs)
        scored = [scored_candidates(fit.num_verdicts_N, self._min_verdicts) for fit in batch.fits]
        centred: list[NDArray[np.float64]] = []
        for fit, scored_N in zip(batch.fits, scored, strict=True):
            strengths_N = fit.strengths_N[scored_N]
            centred.append(strengths_N - strengths_N.mean() if scored_N.any() else strengths_N)
        squares = learned.score_squares + sum(float(np.sum(strengths_N**2)) for strengths_N in centred)
        rollouts = learned.score_rollouts + sum(len(strengths_N) for strengths_N in centred)
        scale = float(np.sqrt(squares / rollouts)) if squares > 0.0 else 1.0
        strengths: list[Strengths] = []
        for log, fit, scored_N, centred_N in zip(logs, batch.fits, scored, centred, strict=True):
            if not scored_N.any():
                strengths.append(_unscored(log))
                continue
            slots = fit.candidates_N[scored_N]
            rewards = _in_slots(log, slots, centred_N / scale)
            noise, reliability, stderrs = batch.noise_variance, None, None
            if noise is not None:
                spread = float(centred_N.var())
                # Least squares does not shrink: the spread seen is signal plus noise.
                noise_share = noise * float(fit.spread_N[scored_N].mean()) / spread if spread > 0.0 else 1.0
                reliability = max(0.0, 1.0 - noise_share)
                stderrs = _in_slots(log, slots, np.sqrt(noise * fit.spread_N[scored_N]) / scale)
            strengths.append(Strengths(rewards, reliability, strengths=rewards, stderrs=stderrs))
        decay = self._config.prior_decay
        return strengths, replace(learned, score_squares=decay * squares, score_rollouts=decay * rollouts)


def _unscored(log: MatchLog) -> Strengths:
    return Strengths(rewards=[None] * log.num_candidates)


def _in_slots(log: MatchLog, slots: NDArray[np.int64], values: NDArray[np.float64]) -> list[float | None]:
    entries: list[float | None] = [None] * log.num_candidates
    for slot, value in zip(slots.tolist(), values.tolist(), strict=True):
        entries[slot] = value
    return entries
