"""What a match is worth: against a slow oracle that samples the posterior mixture."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rewards.aggregators.laplace import ScaleFits, fit_scales, sigmoid
from rewards.aggregators.mixture import fit_mixture
from rewards.topologies.acquisition import pick_matches

SCALES = np.array([0.3, 1.0, 2.5])
FIRST, SECOND = np.array(list(combinations(range(5), 2))).T


def posterior(seed: int, num_groups: int = 1) -> tuple[ScaleFits, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    votes = np.triu(rng.integers(0, 2, size=(num_groups, 5, 5)), 1).astype(np.float64)
    wins = votes * rng.integers(0, 2, size=votes.shape)
    fits = fit_scales(wins, votes, SCALES)
    _, shares = fit_mixture(fits.log_evidence_GK, np.full(3, 0.5))
    return fits, shares, votes[:, FIRST, SECOND] > 0


def draws(fits: ScaleFits, shares: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and win probabilities of all pairs in draws from one group's posterior."""
    rng = np.random.default_rng(0)
    scale = rng.choice(3, size=num, p=shares[0])
    theta = np.empty((num, 5))
    for k in range(3):
        chosen = scale == k
        theta[chosen] = rng.multivariate_normal(fits.strengths_GKN[0, k], fits.covariance_GKNN[0, k], chosen.sum())
    p = sigmoid(theta[:, :, None] - theta[:, None, :])
    return (p.sum(-1) - 0.5) / 4, p[:, FIRST, SECOND]


@pytest.mark.parametrize("calls_per_match", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_gains_are_those_of_the_best_linear_prediction_from_sampled_verdicts(seed: int, calls_per_match: int) -> None:
    fits, shares, _ = posterior(seed)
    rewards, p = draws(fits, shares, 200_000)
    centred = rewards - rewards.mean(0)
    cov = centred.T @ (p - p.mean(0)) / len(p)
    signal = p.var(0)
    expected = (cov**2).sum(0) / (signal + (p.mean(0) * (1 - p.mean(0)) - signal) / calls_per_match)
    for pair in range(10):
        blocked = np.ones((1, 10), dtype=bool)
        blocked[0, pair] = False
        picks = pick_matches(fits, shares, FIRST, SECOND, blocked, num_picks=1, calls_per_match=calls_per_match)
        assert picks.pairs_GL[0, 0] == pair
        # The slope in the strengths is the probit-style one, so the two agree to some percent only.
        assert picks.gains_GL[0, 0] == pytest.approx(expected[pair], rel=0.25, abs=1e-4)


def test_two_picks_are_worth_what_conditioning_on_both_is_worth() -> None:
    fits, shares, _ = posterior(7)
    rewards, p = draws(fits, shares, 400_000)
    none = np.zeros((1, 10), dtype=bool)
    picks = pick_matches(fits, shares, FIRST, SECOND, none, num_picks=2, calls_per_match=1)
    chosen = picks.pairs_GL[0]
    q = p[:, chosen]
    verdict_cov = np.cov(q.T) + np.diag((q * (1 - q)).mean(0))
    cov = (rewards - rewards.mean(0)).T @ (q - q.mean(0)) / len(q)
    together = np.trace(cov @ np.linalg.solve(verdict_cov, cov.T))
    assert picks.gains_GL[0].sum() == pytest.approx(together, rel=0.25)
    apart = [
        pick_matches(
            fits, shares, FIRST, SECOND, ~np.eye(10, dtype=bool)[[pair]], num_picks=1, calls_per_match=1
        ).gains_GL[0, 0]
        for pair in chosen
    ]
    assert picks.gains_GL[0].sum() < sum(apart)  # the second asks in part what the first has told


def test_blocked_pairs_are_never_picked_and_a_full_row_is_worth_nothing() -> None:
    fits, shares, played = posterior(3, num_groups=6)
    picks = pick_matches(fits, shares, FIRST, SECOND, played, num_picks=10, calls_per_match=1)
    for group in range(6):
        worth = picks.gains_GL[group] > 0
        chosen = picks.pairs_GL[group][worth]
        assert len(set(chosen)) == len(chosen) == 10 - played[group].sum()
        assert not played[group][chosen].any()
    assert (np.diff(picks.gains_GL, axis=1) <= 0).all()


def test_groups_do_not_look_at_each_other() -> None:
    fits, shares, played = posterior(5, num_groups=4)
    together = pick_matches(fits, shares, FIRST, SECOND, played, num_picks=4, calls_per_match=1)
    for group in range(4):
        part = slice(group, group + 1)
        alone = pick_matches(
            ScaleFits(*(getattr(fits, name)[part] for name in ScaleFits.__slots__)),
            shares[part],
            FIRST,
            SECOND,
            played[part],
            num_picks=4,
            calls_per_match=1,
        )
        np.testing.assert_array_equal(alone.pairs_GL[0], together.pairs_GL[group])
        np.testing.assert_allclose(alone.gains_GL[0], together.gains_GL[group], rtol=1e-9)
