"""Gaussian skills updated verdict by verdict or ranking by ranking: TrueSkill's model in Weng and Lin's closed form.

K-Sort Arena (arXiv 2408.14468) uses the same updates for its K-wise comparisons.
"""

from __future__ import annotations

import numpy as np

from rewards.aggregator_config import TrueSkill
from rewards.aggregators.group import GroupAggregator, GroupVotes, Reading, mean_over_scored, signal_share
from rewards.aggregators.skill_games import play_pairs
from rewards.aggregators.votes import FloatArray, IntArray
from rewards.errors import UserError

_MU, _SIGMA, _BETA = 25.0, 25.0 / 3.0, 25.0 / 6.0
"""The usual start and the spread of one performance, in points."""

_Game = list[tuple[int, ...]]
"""Tiers from best to worst, level candidates together."""


class TrueSkillAggregator(GroupAggregator):
    """theta_i ~ Normal(mu_i, sigma_i^2), performance ~ Normal(theta_i, beta^2); the higher performance wins.

    Updates: openskill's Thurstone-Mosteller full-pairing model (Weng and Lin, JMLR 2011, algorithm 3), which takes a
    ranking of K whole; a log without rankings goes through `skill_games`, which does the same to a million pairs in
    seconds. Being sequential it depends on the order of verdicts: mu and sigma are the mean over `shuffles` seeded
    orders; with 0, one pass in the order of the log, rankings last. A probability counts by its side of one half, a
    score by its sign. A game counts once: verdicts of another weight are refused.
    reward_i: mean over the scored others of Phi((mu_i - mu_j) / sqrt(2 beta^2 + sigma_i^2 + sigma_j^2)). strengths and
    stderrs: mu and sigma. reliability: the variance of mu over itself and the mean sigma^2.

    Raises:
        UserError: a verdict whose weight is not 1.
    """

    def __init__(self, config: TrueSkill, *, min_verdicts: int = 1) -> None:
        super().__init__(min_verdicts=min_verdicts)
        self._shuffles = config.shuffles

    def _read(self, votes: GroupVotes) -> Reading:
        from scipy.special import ndtr

        _check_weights(votes)
        games = _games(votes) if votes.rankings else None
        num_games = len(votes.first_L) if games is None else len(games)
        orders = [np.arange(num_games)]
        if self._shuffles:
            rng = np.random.default_rng(0)
            orders = [rng.permutation(num_games) for _ in range(self._shuffles)]
        played_S2N = np.array(
            [
                _play_pairs(votes, order) if games is None else _play(votes.num_candidates, [games[i] for i in order])
                for order in orders
            ]
        )
        mu_N, sigma_N = played_S2N.mean(0)
        variance_N = sigma_N**2
        spread_NN = np.sqrt(2.0 * _BETA**2 + variance_N[:, None] + variance_N[None, :])
        wins_NN = ndtr((mu_N[:, None] - mu_N[None, :]) / spread_NN)
        return Reading(
            rewards_N=mean_over_scored(wins_NN, votes.scored_N),
            strengths_N=mu_N,
            stderrs_N=sigma_N,
            reliability=signal_share(mu_N, variance_N, votes.scored_N),
        )


def _check_weights(votes: GroupVotes) -> None:
    weights = {*votes.weight_L.tolist(), *(ranking.weight for ranking in votes.rankings)}
    if weights - {1.0}:
        raise UserError(
            f"aggregator trueskill counts every verdict once, got weight {min(weights - {1.0}):g}; "
            "choose bradley_terry or plackett_luce for weighted verdicts"
        )


def _games(votes: GroupVotes) -> list[_Game]:
    games: list[_Game] = []
    for first, second, won in zip(votes.first_L.tolist(), votes.second_L.tolist(), votes.wins_L.tolist(), strict=True):
        if won == 0.5:
            games.append([(first, second)])
        else:
            games.append([(first,), (second,)] if won > 0.5 else [(second,), (first,)])
    return games + [list(ranking.tiers) for ranking in votes.rankings]


def _play_pairs(votes: GroupVotes, order_L: IntArray) -> tuple[FloatArray, FloatArray]:
    first_L, second_L, wins_L = votes.first_L[order_L], votes.second_L[order_L], votes.wins_L[order_L]
    return play_pairs(votes.num_candidates, first_L, second_L, wins_L, mu=_MU, sigma=_SIGMA, beta=_BETA)


def _play(num_candidates: int, games: list[_Game]) -> tuple[list[float], list[float]]:
    from openskill.models import ThurstoneMostellerFull

    model = ThurstoneMostellerFull(mu=_MU, sigma=_SIGMA, beta=_BETA)
    skills = [model.rating() for _ in range(num_candidates)]
    for tiers in games:
        players = [slot for tier in tiers for slot in tier]
        ranks = [float(level) for level, tier in enumerate(tiers) for _ in tier]
        for slot, (skill,) in zip(players, model.rate([[skills[slot]] for slot in players], ranks=ranks), strict=True):
            skills[slot] = skill
    return [skill.mu for skill in skills], [skill.sigma for skill in skills]
