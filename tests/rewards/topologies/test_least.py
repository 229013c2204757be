"""The promise is kept (contract suite) and is not too small: somebody plays exactly so often."""

from __future__ import annotations

from collections import Counter

import pytest

from rewards.topologies import build_topology
from rewards.topologies.least import least_matches
from tests.rewards.topologies.playing import play_at_once, random_results
from tests.rewards.topologies.test_contract import KINDS, Kind

# How often a sort compares somebody depends on the verdicts and the first order; it promises one match.
NO_SORTS = [kind for kind in KINDS if kind.config.kind not in ("sliding_window", "heapsort")]


@pytest.mark.parametrize("kind", NO_SORTS, ids=str)
@pytest.mark.parametrize("num_candidates", [2, 8, 13, 16])
def test_somebody_plays_no_more_than_promised(kind: Kind, num_candidates: int) -> None:
    topology, least = build_topology(kind.config), 10**9
    for world in range(8):
        results = play_at_once(topology, num_candidates, random_results(world, (1.0, 0.0)), seed=world)
        least = min(least, *Counter(i for pairing in results for i in (pairing.a, pairing.b)).values())
    assert least == least_matches(kind.config, num_candidates)
