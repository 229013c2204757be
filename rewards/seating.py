"""In which order the judge is shown the members of a match or a slate; and what several orders of one slate say.

Symmetric judges are asked once, lowest slot first, whatever the orders.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from rewards.types import Orders, Pairing, Ranking, Slate


def pair_seats(pairing: Pairing, orders: Orders, symmetric: bool, seed: int) -> list[tuple[int, int]]:
    """Who is shown first and second, one entry per call."""
    forward, backward = (pairing.a, pairing.b), (pairing.b, pairing.a)
    if symmetric or orders == "first":
        return [forward]
    if orders == "both":
        return [forward, backward]
    coin = stable_hash(seed, pairing.a, pairing.b, pairing.round) % 2
    return [backward if coin else forward]


def slate_orders(slate: Slate, orders: Orders, symmetric: bool, seed: int) -> list[tuple[int, ...]]:
    """The slots as they are shown, one entry per call: ascending; `random` shuffled; `both` ascending and reversed."""
    if symmetric or orders == "first":
        return [slate.members]
    if orders == "both":
        return [slate.members, slate.members[::-1]]
    rng = np.random.default_rng(stable_hash(seed, "slate", *slate.members, slate.round))
    return [tuple(rng.permutation(slate.members).tolist())]


def merged_tiers(rankings: Iterable[Ranking]) -> tuple[tuple[int, ...], ...]:
    """Tiers of a slate from the calls about it: by the sum of places; empty when every call failed.

    Level ones count the mean of the places they share, so that every call hands out the same sum.
    """
    doubled: defaultdict[int, int] = defaultdict(int)
    for ranking in rankings:
        above = 0
        for tier in ranking.tiers():
            for slot in tier:
                doubled[slot] += 2 * above + len(tier) - 1
            above += len(tier)
    return tuple(
        tuple(sorted(slot for slot, place in doubled.items() if place == level))
        for level in sorted(set(doubled.values()))
    )


def stable_hash(*parts: object) -> int:
    """64 bits, the same in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big")
