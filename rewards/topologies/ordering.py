"""What the topologies share: who takes part, orders by lot and by prior, results seen from one side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import isnan
from statistics import fmean, median

import numpy as np

from rewards.types import Pairing, TournamentState


def members_known(state: TournamentState) -> bool:
    """Whether nobody else can arrive, so that `state.arrived` is the whole field."""
    return state.closed or len(state.arrived) == state.num_candidates


def lots(state: TournamentState, count: int = 1) -> list[list[int]]:
    """`count` independent random orders of all slots, drawn from `state.seed`.

    Drawn over all slots, so that who is missing does not change the order of the others.
    """
    return [list(order) for order in _lots(state.seed, state.num_candidates, count)]


@lru_cache(maxsize=1024)
def _lots(seed: int, num_slots: int, count: int) -> tuple[tuple[int, ...], ...]:
    rng = np.random.default_rng(seed)
    return tuple(tuple(rng.permutation(num_slots).tolist()) for _ in range(count))


def by_lot(state: TournamentState) -> list[int]:
    """Those who arrived, in a random order."""
    return [slot for slot in lots(state)[0] if slot in state.arrived]


def by_prior(state: TournamentState) -> list[int]:
    """Those who arrived, best prior score first, lots among equals.

    A candidate without a score, or with NaN, stands at the median of those that have one; without any scores the order
    is by lot.
    """
    order = by_lot(state)
    scores = {i: state.prior_scores[i] for i in order if i in state.prior_scores and not isnan(state.prior_scores[i])}
    middle = median(scores.values()) if scores else 0.0
    return sorted(order, key=lambda i: -scores.get(i, middle))


def middle_of(order: Sequence[int]) -> int:
    """The median of an order; of two in the middle, the better one (the first)."""
    return order[(len(order) - 1) // 2]


def pair(i: int, j: int, match_round: int = 0) -> Pairing:
    return Pairing(min(i, j), max(i, j), match_round)


def seen_from(candidate: int, pairing: Pairing, result: float | None) -> float | None:
    """1 won, 0 lost, 0.5 level, None missing, as `candidate` sees it."""
    return result if result is None or candidate == pairing.a else 1.0 - result


def unplayed(pairings: Iterable[Pairing], results: Mapping[Pairing, float | None]) -> list[Pairing]:
    return [pairing for pairing in pairings if pairing not in results]


def mean_result(results: Iterable[float | None]) -> float:
    """Mean of the results that exist; level (0.5) where there is none."""
    decided = [result for result in results if result is not None]
    return fmean(decided) if decided else 0.5
