"""Who beats whom in a group, for objectives that compare answers inside the loss.

    wins_GG[i, j] = P(i beats j): the mean verdict of their matches; 1 - it at [j, i]; both 0 where they never met

Without a tournament, and against an answer that failed a gate and so met nobody, the higher reward wins: 1 and 0, or 0
and 0 where rewards are level. A verdict of kind `score` says who is better, not by how much: 1, 0 or 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.types import GroupScore
from rl.types import Float64Array


def pair_wins(score: GroupScore, slots: Sequence[int]) -> Float64Array:
    """[G, G] over `slots`, the scored rollouts that are learned from, in that order."""
    num_slots = len(score.rewards)
    rewards = np.array([np.nan if reward is None else reward for reward in score.rewards])
    wins_GG = (rewards[:, None] > rewards[None, :]).astype(np.float64)  # False beside a NaN
    if score.matches or score.rankings:
        gated = np.zeros(num_slots, dtype=bool)
        gated[[slot for failed in score.gate_failures.values() for slot in failed]] = True
        wins_GG[~(gated[:, None] | gated[None, :])] = 0.0
        totals_GG, counts_GG = np.zeros((2, num_slots, num_slots))
        for a, b, outcome in _outcomes(score):
            totals_GG[a, b] += outcome
            totals_GG[b, a] += 1 - outcome
            counts_GG[a, b] += 1
            counts_GG[b, a] += 1
        met_GG = counts_GG > 0
        wins_GG[met_GG] = totals_GG[met_GG] / counts_GG[met_GG]
    return wins_GG[np.ix_(slots, slots)]


def _outcomes(score: GroupScore) -> list[tuple[int, int, float]]:
    """(a, b, value seen from a) of every match with a verdict and of every two in a ranking."""
    found: list[tuple[int, int, float]] = []
    for match in score.matches:
        kind = score.kind or "hard"
        value = match.result(kind) if kind == "score" else match.outcome(kind)
        if value is not None:
            found.append((match.pairing.a, match.pairing.b, value))
    for ranking in score.rankings:
        tiers = ranking.tiers()
        place = {slot: level for level, tier in enumerate(tiers) for slot in tier}
        members = sorted(place)
        found += [
            (a, b, 0.5 if place[a] == place[b] else float(place[a] < place[b]))
            for i, a in enumerate(members)
            for b in members[i + 1 :]
        ]
    return found
