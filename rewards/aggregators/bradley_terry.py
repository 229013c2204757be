"""Bradley-Terry strengths under a fixed prior, one group at a time (Bradley and Terry 1952)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rewards.aggregator_config import BradleyTerry
from rewards.aggregators.base import TableAggregator, in_slots
from rewards.aggregators.laplace import fit_scales
from rewards.aggregators.posterior import win_probabilities
from rewards.aggregators.vote_strengths import SizeBatch, by_size
from rewards.aggregators.votes import VerdictTable, collect_votes, scored_candidates
from rewards.types import Prior, Strengths


class BradleyTerryAggregator(TableAggregator):
    """theta maximises sum w [y log p + (1 - y) log(1 - p)] - |theta|^2 / (2 prior_sd^2).

    With p = sigmoid(theta_i - theta_j), w a verdict's weight and y its value seen from i.
    A tie is half a win for both, a probability a fractional one, a score counts by its sign. reward_i: posterior mean
    over the scored others of P(i beats j), as in empirical Bayes, whose scale is learned where this one is given. There
    is no seat term and no prior that is carried; parts of a disconnected graph each centre at zero.

    stderrs: from the Hessian (Laplace). reliability = V / (V + mean posterior variance of the rewards).
    """

    def __init__(self, config: BradleyTerry, *, min_verdicts: int = 1) -> None:
        super().__init__(min_verdicts=min_verdicts, judge_weights=config.judge_weights)
        self._scale_1 = np.array([config.prior_sd])

    def _fit_tables(self, tables: Sequence[VerdictTable], prior: Prior | None) -> tuple[list[Strengths], Prior]:
        votes = [collect_votes(replace(table, value_V=table.wins_V, kind="hard")) for table in tables]
        scored = [scored_candidates(vote.num_verdicts_N, self._min_verdicts) for vote in votes]
        fitted = [Strengths(rewards=[None] * table.num_candidates) for table in tables]
        for batch in by_size(votes, scored):
            for index, strengths in self._fit(batch, tables, [votes[i].candidates_N for i in batch.indices]):
                fitted[index] = strengths
        return fitted, {}

    def _fit(
        self, batch: SizeBatch, tables: Sequence[VerdictTable], candidates: Sequence[np.ndarray]
    ) -> list[tuple[int, Strengths]]:
        fits = fit_scales(batch.wins_GNN, batch.votes_GNN, self._scale_1)
        mean_GKN, variance_GKN = win_probabilities(fits, batch.scored_GN)
        found: list[tuple[int, Strengths]] = []
        for row, (index, candidates_N) in enumerate(zip(batch.indices, candidates, strict=True)):
            scored_N, size = batch.scored_GN[row], tables[index].num_candidates
            if not scored_N.any():
                continue
            slots, rewards_N = candidates_N[scored_N], mean_GKN[row, 0, scored_N]
            signal, noise = float(rewards_N.var()), float(variance_GKN[row, 0, scored_N].mean())
            errors_N = np.sqrt(np.diagonal(fits.covariance_GKNN[row, 0])[scored_N])
            found.append(
                (
                    index,
                    Strengths(
                        rewards=in_slots(size, slots, rewards_N),
                        reliability=signal / (signal + noise),
                        strengths=in_slots(size, slots, fits.strengths_GKN[row, 0, scored_N]),
                        stderrs=in_slots(size, slots, errors_N),
                    ),
                )
            )
        return found
