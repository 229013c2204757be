"""Checkpoints on one ladder: Bradley-Terry strengths from per-prompt games, bootstrap intervals over prompts (ours).

    per prompt: a round-robin or a knockout -> wins_PKK -> sum over prompts -> strengths_K (logits, the first one is 0)
                                                 |
                                                 +-- prompts drawn again R times -> 95 % intervals

Shapes: P prompts, K players (the starting model first), R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.laplace import fit_scales, sigmoid
from rewards.aggregators.votes import FloatArray

PRIOR_SD = 5.0
"""Logits: weak enough to move nothing that was played, and finite where one player won everything."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One player. strength: logits above the first player; win_rate: mean outcome against all others together."""

    name: str
    strength: float
    ci95: tuple[float, float]
    win_rate: float
    num_games: float


def fit_ladder(wins_PKK: FloatArray, names: Sequence[str], *, num_resamples: int, seed: int) -> list[Rung]:
    """Rungs in the order of `names`.

    Args:
        wins_PKK: wins_PKK[p, i, j] = games that i won against j on prompt p; a level game is half a win for both.
    """
    strengths_K = _strengths(wins_PKK.sum(0)[None])[0]
    rng = np.random.default_rng(seed)
    draws_RP = rng.multinomial(len(wins_PKK), np.full(len(wins_PKK), 1.0 / len(wins_PKK)), size=num_resamples)
    drawn_RK = _strengths(np.einsum("rp,pij->rij", draws_RP.astype(np.float64), wins_PKK, optimize=True))
    low_K, high_K = np.quantile(drawn_RK, [0.025, 0.975], axis=0)
    won_K, games_K = wins_PKK.sum((0, 2)), (wins_PKK + wins_PKK.swapaxes(1, 2)).sum((0, 2))
    return [
        Rung(
            name=name,
            strength=float(strengths_K[k]),
            ci95=(float(low_K[k]), float(high_K[k])),
            win_rate=float(won_K[k] / games_K[k]) if games_K[k] else 0.5,
            num_games=float(games_K[k]),
        )
        for k, name in enumerate(names)
    ]


def _strengths(wins_RKK: FloatArray) -> FloatArray:
    fits = fit_scales(wins_RKK, wins_RKK + wins_RKK.swapaxes(1, 2), np.array([PRIOR_SD]))
    # Every game stands there twice, once for each side: the estimate is the same, and no variance is read from it.
    strengths_RK = fits.strengths_GKN[:, 0]
    return strengths_RK - strengths_RK[:, :1]


def length_controlled_win_rate(outcomes_P: FloatArray, length_gap_P: FloatArray) -> float | None:
    """Win rate of the second player if both answers were equally long (after Dubois et al. 2024, arXiv 2404.04475).

    Logistic regression outcome ~ a + b tanh(length gap / its standard deviation); the result is sigmoid(a).

    Args:
        outcomes_P: 1, 0.5 or 0. length_gap_P: tokens of the second player's answer less the first's.

    Returns:
        None without games.
    """
    if len(outcomes_P) == 0:
        return None
    spread = float(length_gap_P.std())
    gap_P = np.tanh(length_gap_P / spread) if spread > 0.0 else np.zeros_like(length_gap_P)
    design_P2 = np.stack([np.ones_like(gap_P), gap_P], axis=-1)
    weights_2 = np.zeros(2)
    precision_22 = np.eye(2) / PRIOR_SD**2
    for _ in range(50):
        p_P = sigmoid(design_P2 @ weights_2)
        gradient_2 = design_P2.T @ (outcomes_P - p_P) - precision_22 @ weights_2
        step_2 = np.linalg.solve((design_P2 * (p_P * (1 - p_P))[:, None]).T @ design_P2 + precision_22, gradient_2)
        weights_2 = weights_2 + step_2
        if np.abs(step_2).max() < 1e-10:
            break
    return float(sigmoid(weights_2[0]))
