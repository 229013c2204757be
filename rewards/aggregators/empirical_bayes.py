"""The default aggregator: posterior win probabilities under a prior whose scale is learned from the batch (ours).

GRPO divides by a group's spread, which blows a judge's coin flips up to full size. Here a group's strengths have an
unknown scale s from a grid; how common each scale is, is learned from the batch by EM. A group that the judge cannot
tell apart is given small scales and rewards near 1/2:

    reward_i = sum_s r(s) * mean over scored j != i of E[P(i beats j) | s],   r(s) ~ pi(s) Z(s)
    reliability = V / (V + mean posterior variance of the rewards),           V = variance of the group's rewards

`score` verdicts are not votes: their rewards are centred strengths on a batch-wide scale, see `score_strengths`, shrunk
where the judge's error is known, see `score_shrinkage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rewards.aggregator_config import EmpiricalBayes
from rewards.aggregators.base import TableAggregator, in_slots
from rewards.aggregators.prior import BatchPrior
from rewards.aggregators.score_shrinkage import Shrunk, shrink, win_shares
from rewards.aggregators.score_strengths import ScoreFit, fit_scores
from rewards.aggregators.vote_strengths import fit_votes
from rewards.aggregators.votes import (
    VerdictTable,
    asked_one_order,
    batch_kind,
    collect_votes,
    probability_weight,
    scored_candidates,
)
from rewards.types import Prior, Strengths


class EmpiricalBayesAggregator(TableAggregator):
    """See the module's docstring."""

    def __init__(self, config: EmpiricalBayes | None = None, *, min_verdicts: int = 1) -> None:
        self._config = config or EmpiricalBayes()
        super().__init__(min_verdicts=min_verdicts, judge_weights=self._config.judge_weights)

    def _fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None) -> tuple[list[Strengths], Prior]:
        """Scores a batch of groups. See `BatchPrior` for what the prior holds and its default.

        Raises:
            UserError: the prior was learned on another grid of scales.
        """
        learned = BatchPrior.read(prior, self._config.scales)
        if batch_kind(tables) == "score":
            strengths, learned = self._fit_scores(tables, learned)
        else:
            strengths, learned = self._fit_votes(tables, learned)
        return strengths, learned.to_json()

    def _fit_votes(self, tables: Sequence[VerdictTable], learned: BatchPrior) -> tuple[list[Strengths], BatchPrior]:
        votes = [collect_votes(table) for table in tables]
        scored = [scored_candidates(vote.num_verdicts_N, self._min_verdicts) for vote in votes]
        weight = probability_weight(tables) if batch_kind(tables) == "probability" else 1.0
        weighted = [replace(v, values_NN=weight * v.values_NN, counts_NN=weight * v.counts_NN) for v in votes]
        readings, learned = fit_votes(
            weighted, scored, learned, decay=self._config.prior_decay, with_seat_bias=asked_one_order(tables)
        )
        strengths: list[Strengths] = []
        for table, vote, scored_N, reading in zip(tables, votes, scored, readings, strict=True):
            if reading is None or not scored_N.any():
                strengths.append(_unscored(table))
                continue
            signal = float(reading.rewards_N[scored_N].var())
            noise = float(reading.reward_variance_N[scored_N].mean())
            slots = vote.candidates_N[scored_N]
            strengths.append(
                Strengths(
                    rewards=in_slots(table.num_candidates, slots, reading.rewards_N[scored_N]),
                    reliability=signal / (signal + noise),
                    strengths=in_slots(table.num_candidates, slots, reading.strengths_N[scored_N]),
                    stderrs=in_slots(table.num_candidates, slots, np.sqrt(reading.strength_variance_N[scored_N])),
                )
            )
        return strengths, learned

    def _fit_scores(self, tables: Sequence[VerdictTable], learned: BatchPrior) -> tuple[list[Strengths], BatchPrior]:
        batch = fit_scores(tables)
        if any(table.said_V is not None for table in tables):
            # Ties in the place of verdicts that disagree would hide the judge's noise.
            batch = replace(batch, noise_variance=fit_scores([table.as_said for table in tables]).noise_variance)
        scored = [scored_candidates(fit.num_verdicts_N, self._min_verdicts) for fit in batch.fits]
        centred: list[NDArray[np.float64]] = []
        for fit, scored_N in zip(batch.fits, scored, strict=True):
            strengths_N = fit.strengths_N[scored_N]
            centred.append(strengths_N - strengths_N.mean() if scored_N.any() else strengths_N)
        squares = learned.score_squares + sum(float(np.sum(strengths_N**2)) for strengths_N in centred)
        rollouts = learned.score_rollouts + sum(len(strengths_N) for strengths_N in centred)
        scale = float(np.sqrt(squares / rollouts)) if squares > 0.0 else 1.0
        noise = [
            (batch.noise_variance or 0.0) * float(fit.spread_N[scored_N].mean()) if scored_N.any() else 0.0
            for fit, scored_N in zip(batch.fits, scored, strict=True)
        ]
        decay = self._config.prior_decay
        learned = replace(learned, score_squares=decay * squares, score_rollouts=decay * rollouts)
        if self._config.score_error is None:
            shrunk = [Shrunk(centred_N, 0.0) for centred_N in centred]
        else:
            shrunk, seen_K = shrink(centred, noise, self._config.score_error, learned.multiple_counts)
            groups_K = decay * (np.array(learned.multiple_groups) + seen_K)
            learned = replace(learned, multiple_groups=tuple(groups_K.tolist()))
        strengths = [
            self._read_scores(table, fit, scored_N, centred_N, posterior, batch.noise_variance, scale)
            for table, fit, scored_N, centred_N, posterior in zip(
                tables, batch.fits, scored, centred, shrunk, strict=True
            )
        ]
        return strengths, learned

    def _read_scores(
        self,
        table: VerdictTable,
        fit: ScoreFit,
        scored_N: NDArray[np.bool_],
        centred_N: NDArray[np.float64],
        shrunk: Shrunk,
        noise: float | None,
        scale: float,
    ) -> Strengths:
        if not scored_N.any():
            return _unscored(table)
        slots = fit.candidates_N[scored_N]
        reliability, errors_N = None, None
        if self._config.score_error is not None:
            signal = float(shrunk.mean_N.var())
            reliability = signal / (signal + shrunk.variance) if signal > 0.0 else 0.0
            errors_N = np.full(len(slots), np.sqrt(shrunk.variance))
        elif noise is not None:
            spread = float(centred_N.var())
            # Least squares does not shrink: the spread seen is signal plus noise.
            noise_share = noise * float(fit.spread_N[scored_N].mean()) / spread if spread > 0.0 else 1.0
            reliability = max(0.0, 1.0 - noise_share)
            errors_N = np.sqrt(noise * fit.spread_N[scored_N])
        strengths = in_slots(table.num_candidates, slots, shrunk.mean_N / scale)
        rewards = strengths
        if self._config.score_rewards == "win_share":
            rewards = in_slots(table.num_candidates, slots, win_shares(shrunk.mean_N, shrunk.variance, scale))
        stderrs = None if errors_N is None else in_slots(table.num_candidates, slots, errors_N / scale)
        return Strengths(rewards, reliability, strengths=strengths, stderrs=stderrs)


def _unscored(table: VerdictTable) -> Strengths:
    return Strengths(rewards=[None] * table.num_candidates)
