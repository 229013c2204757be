"""Plackett-Luce: whole rankings as choices from what is left (Luce 1959, Plackett 1975), with a Normal prior.

    P(a > b > c) = e^a / (e^a + e^b + e^c)  *  e^b / (e^b + e^c)

Shapes: N candidates, C choices of one out of a set, K slots of the largest set.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregator_config import PlackettLuce
from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading, signal_share
from rewards.aggregators.laplace import ScaleFits
from rewards.aggregators.newton import maximise
from rewards.aggregators.posterior import win_probabilities
from rewards.aggregators.votes import FloatArray, IntArray


class PlackettLuceAggregator(GroupAggregator):
    """MAP under theta ~ Normal(0, prior_sd^2); a verdict about a pair is a ranking of two (Bradley-Terry).

    A candidate of a ranking is chosen from itself and everybody strictly worse; level candidates share half a win each
    with one another (ours: without ties it is Plackett-Luce, for two it is Bradley-Terry's half win).
    reward_i: posterior mean over the scored others of P(i beats j), as in `bradley_terry`; stderrs and reliability
    likewise.
    """

    def __init__(self, config: PlackettLuce, *, min_verdicts: int = 1) -> None:
        super().__init__(min_verdicts=min_verdicts, judge_weights=config.judge_weights)
        self._prior_sd = config.prior_sd

    def _read(self, votes: GroupVotes) -> Reading:
        n = votes.num_candidates
        pair_NN, set_CK, weight_C, won_N = _choices(votes)
        games_NN = np.triu(pair_NN + pair_NN.T, 1)
        both_NN = games_NN + games_NN.T
        precision = self._prior_sd**-2.0
        rows_C1 = np.arange(len(set_CK))[:, None]

        def padded(x_N: FloatArray) -> FloatArray:
            return np.append(x_N, -np.inf)[set_CK]

        def value(x_N: FloatArray) -> float:
            pairs = (games_NN * np.logaddexp(x_N[:, None], x_N[None, :])).sum()
            sets = weight_C @ np.logaddexp.reduce(padded(x_N), axis=1) if len(set_CK) else 0.0
            return float(won_N @ x_N - pairs - sets - precision * (x_N @ x_N) / 2.0)

        def slopes(x_N: FloatArray) -> tuple[FloatArray, FloatArray]:
            p_NN = np.exp(x_N[:, None] - np.logaddexp(x_N[:, None], x_N[None, :]))
            spread_NN = both_NN * p_NN * p_NN.T
            gradient_N = won_N - (both_NN * p_NN).sum(1) - precision * x_N
            information_NN = np.diag(spread_NN.sum(1) + precision) - spread_NN
            if len(set_CK):
                x_CK = padded(x_N)
                share_CK = np.exp(x_CK - np.logaddexp.reduce(x_CK, axis=1, keepdims=True))
                share_CN = np.zeros((len(set_CK), n + 1))
                share_CN[rows_C1, set_CK] = share_CK
                share_CN = share_CN[:, :n]
                expected_N = weight_C @ share_CN
                gradient_N = gradient_N - expected_N
                information_NN += np.diag(expected_N) - (share_CN * weight_C[:, None]).T @ share_CN
            return gradient_N, information_NN

        x_N, information_NN = maximise(value, slopes, np.zeros(n))
        covariance_NN: FloatArray = np.linalg.inv(information_NN).astype(np.float64)
        nothing = np.zeros((1, 1))
        fits = ScaleFits(x_N[None, None], covariance_NN[None, None], nothing, nothing, nothing)
        mean_GKN, variance_GKN = win_probabilities(fits, votes.scored_N[None])
        return Reading(
            rewards_N=mean_GKN[0, 0],
            strengths_N=x_N,
            stderrs_N=np.sqrt(np.diagonal(covariance_NN)),
            reliability=signal_share(mean_GKN[0, 0], variance_GKN[0, 0], votes.scored_N),
        )


def _choices(votes: GroupVotes) -> tuple[FloatArray, IntArray, FloatArray, FloatArray]:
    """Weighted wins of pairs; choices from larger sets (padded with N) and their weights; wins of every candidate."""
    n = votes.num_candidates
    pair_NN = np.zeros((n, n))
    np.add.at(pair_NN, (votes.first_L, votes.second_L), votes.weight_L * votes.wins_L)
    np.add.at(pair_NN, (votes.second_L, votes.first_L), votes.weight_L * (1.0 - votes.wins_L))
    sets: list[tuple[int, ...]] = []
    weights: list[float] = []
    won_N = np.zeros(n)
    for ranking in votes.rankings:
        for level, tier in enumerate(ranking.tiers):
            worse = tuple(slot for lower in ranking.tiers[level + 1 :] for slot in lower)
            for slot in tier:
                pair_NN[slot, [other for other in tier if other != slot]] += ranking.weight / 2.0
                if worse:
                    sets.append((slot, *worse))
                    weights.append(ranking.weight)
                    won_N[slot] += ranking.weight
    widest = max((len(one) for one in sets), default=0)
    set_CK = np.full((len(sets), widest), n, np.int64)
    for row, one in enumerate(sets):
        set_CK[row, : len(one)] = one
    return pair_NN, set_CK, np.array(weights), won_N + pair_NN.sum(1)
