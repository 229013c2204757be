"""Single elimination: a knockout bracket with real byes, seeded at random or by an anchor round.

round 0 (anchor seeding only)   everybody against the anchor, as they arrive
round 1..ceil(log2 N)           the bracket, once it is known who takes part; a match waits for its two sides

seeds of 6 in a bracket of 8:   1 --bye--+            The seeds that are missing are the worst ones,
                                4 -- 5 --+--+         so the best seeds have the byes and the two
                                2 --bye--+  +-- final best cannot meet before the final.
                                3 -- 6 --+--+
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal

import numpy as np

from rewards.types import Pairing, TournamentState


class _Side(Enum):
    """A side of a bracket match that is not (yet) a candidate."""

    BYE = 0
    PENDING = 1


class SingleEliminationTopology:
    """N-1 matches; with `seeding="anchor"` everybody plays the anchor first, 2N-2 matches (ArenaRL, arXiv 2601.06487).

    The anchor is candidate 0, or the lowest slot that arrived once the group is closed. Seeds are ordered by the
    result against the anchor (win, level or no verdict, loss); the anchor stands by its mean result; equal results are
    ordered by lot, drawn from `state.seed`. A tie or a missing verdict lets the better seed advance; nothing is logged
    for it. The anchor's bracket match against somebody it met before is a second meeting, with its bracket round.
    """

    def __init__(self, seeding: Literal["random", "anchor"] = "anchor") -> None:
        self._seeding = seeding

    def playable(self, state: TournamentState) -> list[Pairing]:
        members_known = state.closed or len(state.arrived) == state.num_candidates
        if self._seeding == "random":
            return _bracket_matches(_by_lot(state), state.results) if members_known else []
        if not state.arrived or (0 not in state.arrived and not members_known):
            return []
        anchor = min(state.arrived)
        seeding_round = {i: _pair(anchor, i, 0) for i in sorted(state.arrived) if i != anchor}
        waiting = [pairing for pairing in seeding_round.values() if pairing not in state.results]
        if waiting or not members_known:
            return waiting
        return _bracket_matches(_by_anchor(state, anchor, seeding_round), state.results)

    def max_matches(self, num_candidates: int) -> int:
        return (num_candidates - 1) * (2 if self._seeding == "anchor" else 1)


def bracket_order(size: int) -> list[int]:
    """Seeds (0 = best) of a bracket of `size` places, a power of two, in the order of its lines.

    Neighbours meet in round 1: size 8 gives [0, 7, 3, 4, 1, 6, 2, 5].
    """
    order = [0]
    while len(order) < size:
        last = 2 * len(order) - 1
        order = [seed for better in order for seed in (better, last - better)]
    return order


def _by_lot(state: TournamentState) -> list[int]:
    # The lot is drawn over all slots, so that who is missing does not change the order of the others.
    order = np.random.default_rng(state.seed).permutation(state.num_candidates)
    return [int(i) for i in order if int(i) in state.arrived]


def _by_anchor(state: TournamentState, anchor: int, seeding_round: dict[int, Pairing]) -> list[int]:
    results = {i: _seen_from(i, pairing, state.results[pairing]) for i, pairing in seeding_round.items()}
    against_anchor = [1.0 - result for result in results.values() if result is not None]
    standing = {i: 0.5 if result is None else result for i, result in results.items()}
    standing[anchor] = sum(against_anchor) / len(against_anchor) if against_anchor else 0.5
    return sorted(_by_lot(state), key=lambda i: -standing[i])


def _bracket_matches(seeds: list[int], results: Mapping[Pairing, float | None]) -> list[Pairing]:
    """Matches of the bracket that can be played now; `seeds` lists the candidates, best seed first."""
    seed_of = {candidate: seed for seed, candidate in enumerate(seeds)}
    size = 1
    while size < len(seeds):
        size *= 2
    lines: list[int | _Side] = [seeds[seed] if seed < len(seeds) else _Side.BYE for seed in bracket_order(size)]
    playable: list[Pairing] = []
    bracket_round = 0
    while len(lines) > 1:
        bracket_round += 1
        winners: list[int | _Side] = []
        for upper, lower in zip(lines[::2], lines[1::2], strict=True):
            if upper is _Side.BYE or lower is _Side.BYE:
                winners.append(lower if upper is _Side.BYE else upper)
            elif isinstance(upper, _Side) or isinstance(lower, _Side):
                winners.append(_Side.PENDING)
            else:
                pairing = _pair(upper, lower, bracket_round)
                if pairing in results:
                    better, worse = sorted((upper, lower), key=seed_of.__getitem__)
                    winners.append(worse if _seen_from(worse, pairing, results[pairing]) == 1.0 else better)
                else:
                    playable.append(pairing)
                    winners.append(_Side.PENDING)
        lines = winners
    return playable


def _pair(i: int, j: int, match_round: int) -> Pairing:
    return Pairing(min(i, j), max(i, j), match_round)


def _seen_from(candidate: int, pairing: Pairing, result: float | None) -> float | None:
    return result if result is None or candidate == pairing.a else 1.0 - result
