from __future__ import annotations

from collections import Counter

from rewards.topologies.random_reference import RandomReferenceTopology
from rewards.types import TournamentState
from tests.rewards.topologies.playing import play_at_once

TOPOLOGY = RandomReferenceTopology()


def reference(arrived: frozenset[int], *, closed: bool, seed: int) -> int | None:
    playable = TOPOLOGY.playable(TournamentState(6, arrived, closed, {}, seed))
    if not playable:
        return None
    assert len(playable) == len(arrived) - 1
    met = Counter(i for pairing in playable for i in (pairing.a, pairing.b))
    ((candidate, count),) = met.most_common(1)
    assert count == len(playable)
    return candidate


def test_every_slot_is_the_reference_about_equally_often() -> None:
    drawn = Counter(reference(frozenset(range(6)), closed=True, seed=seed) for seed in range(600))
    assert set(drawn) == set(range(6))
    assert min(drawn.values()) > 60


def test_it_streams_once_the_reference_is_there_and_not_before() -> None:
    for seed in range(20):
        chosen = reference(frozenset(range(6)), closed=True, seed=seed)
        assert chosen is not None
        others = frozenset(range(6)) - {chosen}
        assert reference(others, closed=False, seed=seed) is None
        early = frozenset({chosen, *sorted(others)[:2]})
        assert reference(early, closed=False, seed=seed) == chosen
        assert reference(others, closed=True, seed=seed) in others


def test_a_missing_verdict_is_a_gap() -> None:
    assert len(play_at_once(TOPOLOGY, 6, lambda _: None)) == 5
