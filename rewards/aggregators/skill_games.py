"""Games of two in rounds whose games share nobody: what openskill plays one by one, as arrays.

    log order   a-b  c-d  a-c  b-d  a-d
    round         1    1    2    2    3       a game comes after the last ones of both of its players

Games of a round cannot touch each other's skills, so that a round at a time gives what game by game gives. A million
games among a thousand make some four thousand rounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rewards.aggregators.votes import FloatArray, IntArray

_KAPPA, _EPSILON, _TAU = 1e-4, 0.1, 25.0 / 300.0
"""openskill's defaults: what a variance keeps at least, the draw margin, the drift of a skill per game, in points."""
_TINY = np.finfo(np.float64).eps


def play_pairs(
    num_candidates: int,
    first_L: IntArray,
    second_L: IntArray,
    wins_L: FloatArray,
    *,
    mu: float,
    sigma: float,
    beta: float,
) -> tuple[FloatArray, FloatArray]:
    """mu_N and sigma_N after all games in their order, from one start for all.

    Weng and Lin (JMLR 2011), algorithm 3 for two players, with openskill's defaults. wins_L: 1, 0, or 0.5 for level.
    """
    mu_N = np.full(num_candidates, mu)
    sigma_N = np.full(num_candidates, sigma)
    for games_G in rounds(first_L, second_L):
        level_G = wins_L[games_G] == 0.5
        swapped_G = wins_L[games_G] < 0.5
        better_G = np.where(swapped_G, second_L[games_G], first_L[games_G])
        worse_G = np.where(swapped_G, first_L[games_G], second_L[games_G])
        variance_better_G = sigma_N[better_G] ** 2 + _TAU**2
        variance_worse_G = sigma_N[worse_G] ** 2 + _TAU**2
        c_G = np.sqrt(variance_better_G + variance_worse_G + 2.0 * beta**2)
        gain_G, shrink_G = _won((mu_N[better_G] - mu_N[worse_G]) / c_G, _EPSILON / c_G)
        if level_G.any():
            drawn = _drawn((mu_N[better_G] - mu_N[worse_G]) / c_G, _EPSILON / c_G)
            gain_G, shrink_G = np.where(level_G, drawn[0], gain_G), np.where(level_G, drawn[1], shrink_G)
        for players_G, variance_G, sign in ((better_G, variance_better_G, 1.0), (worse_G, variance_worse_G, -1.0)):
            mu_N[players_G] += sign * variance_G / c_G * gain_G
            kept_G = np.maximum(1.0 - (np.sqrt(variance_G) / c_G) ** 3 * shrink_G, _KAPPA)
            sigma_N[players_G] = np.sqrt(variance_G * kept_G)
    return mu_N, sigma_N


def rounds(first_L: IntArray, second_L: IntArray) -> Iterator[IntArray]:
    """Indices of the games of each round, in order."""
    if not len(first_L):
        return
    last = [0] * (1 + int(max(first_L.max(), second_L.max())))
    round_of: list[int] = []
    for first, second in zip(first_L.tolist(), second_L.tolist(), strict=True):
        a, b = last[first], last[second]
        last[first] = last[second] = now = (a if a > b else b) + 1
        round_of.append(now)
    round_L = np.array(round_of)
    by_round_L = np.argsort(round_L, kind="stable")
    yield from np.split(by_round_L, np.flatnonzero(np.diff(round_L[by_round_L])) + 1)


def _won(x_G: FloatArray, margin_G: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weng and Lin's V and W of a win: mean and variance of a Normal cut off below, in its own units."""
    from scipy.special import ndtr

    t_G = x_G - margin_G
    mass_G = ndtr(t_G)
    is_tiny_G = mass_G < _TINY
    gain_G = np.where(is_tiny_G, -t_G, _density(t_G) / np.where(is_tiny_G, 1.0, mass_G))
    return gain_G, np.where(is_tiny_G, np.where(x_G < 0.0, 1.0, 0.0), gain_G * (gain_G + t_G))


def _drawn(x_G: FloatArray, margin_G: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same of a draw: a Normal cut off on both sides."""
    from scipy.special import ndtr

    size_G = np.abs(x_G)
    high_G, low_G = margin_G - size_G, -margin_G - size_G
    mass_G = ndtr(high_G) - ndtr(low_G)
    toward_G = np.where(x_G < 0.0, -1.0, 1.0)
    gain_G = np.where(
        mass_G < 1e-5,
        -x_G + toward_G * margin_G,
        toward_G * (_density(low_G) - _density(high_G)) / np.maximum(mass_G, 1e-5),
    )
    is_tiny_G = mass_G < _TINY
    bend_G = (high_G * _density(high_G) - low_G * _density(low_G)) / np.where(is_tiny_G, 1.0, mass_G)
    return gain_G, np.where(is_tiny_G, 1.0, bend_G + gain_G**2)


def _density(x_G: FloatArray) -> FloatArray:
    return np.exp(-0.5 * x_G**2) / np.sqrt(2.0 * np.pi)
