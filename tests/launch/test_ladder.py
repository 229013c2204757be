from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from launch.ladder import PRIOR_SD, Rung, fit_ladder, length_controlled_win_rate


def ladder(wins: Any, **options: int) -> list[Rung]:
    names = [f"m{k}" for k in range(len(wins[0]))]
    return fit_ladder(np.array(wins, dtype=float), names, num_resamples=200, seed=options.get("seed", 0))


def test_two_players_by_hand() -> None:
    # m1 wins 3 of 4: log-odds log 3, a little less under the weak prior.
    games = [[[0, 0], [1, 0]]] * 3 + [[[0, 1], [0, 0]]]
    start, later = ladder(games)
    assert (start.strength, start.ci95) == (0.0, (0.0, 0.0))
    assert later.strength == pytest.approx(np.log(3), rel=0.02)
    assert later.ci95[0] < later.strength < later.ci95[1]
    assert (start.win_rate, later.win_rate, later.num_games) == (0.25, 0.75, 4)


def test_strengths_are_those_of_a_general_optimiser() -> None:
    rng = np.random.default_rng(0)
    wins = rng.integers(0, 2, size=(30, 4, 4)).astype(float) * (1 - np.eye(4))
    total = wins.sum(0)

    def loss(theta: np.ndarray) -> float:
        gap = theta[:, None] - theta[None, :]
        return float((2 * total * np.log1p(np.exp(-gap))).sum() + (theta**2).sum() / (2 * PRIOR_SD**2))

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    assert [rung.strength for rung in ladder(wins.tolist())] == pytest.approx(best - best[0], abs=1e-4)


def test_who_won_everything_stands_finitely_high_and_equals_stand_level() -> None:
    _start, best = ladder([[[0, 0], [1, 0]]] * 50)
    assert np.isfinite(best.strength)
    assert best.strength > 3
    for rung in ladder([[[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]] * 5):
        assert (rung.strength, rung.win_rate) == (pytest.approx(0.0, abs=1e-9), 0.5)


def test_more_prompts_make_narrower_intervals_and_seeds_repeat() -> None:
    few, many = (ladder([[[0, 0], [1, 0]], [[0, 1], [0, 0]]] * n)[1] for n in (5, 200))
    assert many.ci95[1] - many.ci95[0] < few.ci95[1] - few.ci95[0]
    games = [[[0, 0], [1, 0]]] * 7 + [[[0, 1], [0, 0]]] * 30 + [[[0, 0.5], [0.5, 0]]] * 6
    assert ladder(games) == ladder(games)
    assert ladder(games) != ladder(games, seed=1)


def test_a_judge_of_length_alone_leaves_one_half_once_length_is_controlled() -> None:
    gap = np.array([10.0, 20.0, 30.0, -10.0] * 50)
    wins = (gap > 0).astype(float)
    assert wins.mean() == 0.75
    controlled = length_controlled_win_rate(wins, gap)
    assert controlled is not None
    assert controlled < 0.6


def test_without_a_length_gap_the_win_rate_stays() -> None:
    assert length_controlled_win_rate(np.array([1.0] * 70 + [0.0] * 30), np.zeros(100)) == pytest.approx(0.7, abs=0.01)
    assert length_controlled_win_rate(np.array([]), np.array([])) is None
