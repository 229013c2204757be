"""Round robin: everyone meets everyone once."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

from rewards.types import Pairing, TournamentState


class RoundRobinTopology:
    """N(N-1)/2 matches in one round; a pair can play as soon as both have arrived (Pref-GRPO, arXiv 2508.20751).

    A missing verdict is a gap and changes nothing else.
    """

    def playable(self, state: TournamentState) -> list[Pairing]:
        return [
            pairing
            for pairing in _all_pairs(state.num_candidates)
            if pairing.a in state.arrived and pairing.b in state.arrived and pairing not in state.results
        ]

    def max_matches(self, num_candidates: int) -> int:
        return num_candidates * (num_candidates - 1) // 2


@lru_cache(maxsize=64)
def _all_pairs(num_candidates: int) -> tuple[Pairing, ...]:
    return tuple(Pairing(a, b) for a, b in combinations(range(num_candidates), 2))
