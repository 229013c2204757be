"""The contract of slates, for N = 2..33 and any pattern of rankings and arrivals; and the matchmaking by hand."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from math import ceil, log2

import pytest

from rewards.topologies import build_topology
from rewards.topologies.k_wise import KWiseTopology, Standings, slate_rounds, slate_sizes
from rewards.topologies.least import least_matches
from rewards.topology_config import KWise
from rewards.types import BatchTopology, Slate, SlateTopology
from tests.rewards.topologies.playing_slates import (
    Rankings,
    TiersOf,
    lower_first,
    play_at_once,
    play_live,
    random_tiers,
    state_of,
)

CONFIGS = [
    KWise(kind="k_wise"),
    KWise(kind="k_wise", k=2),
    KWise(kind="k_wise", k=3, rounds=4),
    KWise(kind="k_wise", k=5, rounds=1),
    KWise(kind="k_wise", k=16),
]
WORLDS: list[TiersOf] = [random_tiers(1), random_tiers(2, failing=0.3), random_tiers(3, failing=1.0), lower_first]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"k{config.k}-r{config.rounds}")
every_size = pytest.mark.parametrize("num_candidates", range(2, 34))


def announced(config: KWise, n: int) -> int:
    """Slates for N, in the words of the docstring."""
    if n <= config.k:
        return 1
    return (config.rounds or 1 + ceil(log2(n))) * ceil(n / config.k)


def rounds_of(rankings: Rankings) -> dict[int, list[tuple[int, ...]]]:
    rounds: dict[int, list[tuple[int, ...]]] = {}
    for slate in sorted(rankings, key=lambda slate: (slate.round, slate.members)):
        rounds.setdefault(slate.round, []).append(slate.members)
    return rounds


@every_config
@every_size
class TestContract:
    def test_it_ends_and_the_count_is_as_announced(self, config: KWise, num_candidates: int) -> None:
        topology = build_topology(config)
        for tiers_of in WORLDS:
            rankings = play_at_once(topology, num_candidates, tiers_of, seed=num_candidates)
            assert len(rankings) == topology.max_matches(num_candidates) == announced(config, num_candidates)

    def test_a_round_is_a_partition_as_even_as_can_be(self, config: KWise, num_candidates: int) -> None:
        rankings = play_at_once(build_topology(config), num_candidates, random_tiers(4, failing=0.2), seed=9)
        assert list(rounds_of(rankings)) == list(range(slate_rounds(config.k, config.rounds, num_candidates)))
        for slates in rounds_of(rankings).values():
            seen = Counter(slot for slate in slates for slot in slate)
            sizes = [len(slate) for slate in slates]
            assert set(seen) == set(range(num_candidates))
            assert max(sizes) - min(sizes) <= 1
            twice = num_candidates % 2 if config.k == 2 and num_candidates > 2 else 0
            assert sum(seen.values()) == num_candidates + twice

    def test_everybody_is_compared_as_often_as_promised(self, config: KWise, num_candidates: int) -> None:
        rankings = play_at_once(build_topology(config), num_candidates, random_tiers(5), seed=3)
        pairs: Counter[int] = Counter()
        for slate in rankings:
            pairs.update(dict.fromkeys(slate.members, len(slate.members) - 1))
        assert min(pairs.values()) >= least_matches(config, num_candidates) >= 1

    def test_who_is_ranked_with_whom_does_not_depend_on_when_they_arrive(
        self, config: KWise, num_candidates: int
    ) -> None:
        rng = random.Random(1000 + num_candidates)
        topology, tiers_of = build_topology(config), random_tiers(6, failing=0.2)
        at_once = play_at_once(topology, num_candidates, tiers_of, seed=5)
        assert play_live(topology, num_candidates, tiers_of, rng, seed=5) == at_once

    def test_those_who_never_arrive_are_not_waited_for(self, config: KWise, num_candidates: int) -> None:
        rng = random.Random(2000 + num_candidates)
        topology, tiers_of = build_topology(config), random_tiers(7, failing=0.2)
        for seed in range(2):
            arrivals = rng.sample(range(num_candidates), rng.randint(0, num_candidates - 1))
            live = play_live(topology, num_candidates, tiers_of, rng, seed=seed, arrivals=arrivals)
            assert live == play_at_once(topology, num_candidates, tiers_of, seed=seed, arrived=arrivals)
            assert len(live) <= topology.max_matches(num_candidates)
            assert {slot for slate in live for slot in slate.members} == (set(arrivals) if len(arrivals) > 1 else set())

    def test_new_names_change_only_the_names_after_the_lot(self, config: KWise, num_candidates: int) -> None:
        """Later rounds look at names in no way: two games whose lots differ by a renaming differ by it throughout."""
        topology = build_topology(config)
        old = play_at_once(topology, num_candidates, random_tiers(8, failing=0.2), seed=1)
        lots = [list(play_order(num_candidates, seed)) for seed in (1, 2)]
        renamed = dict(zip(*lots, strict=True))
        known = {
            Slate(tuple(sorted(renamed[slot] for slot in slate.members)), slate.round): tuple(
                tuple(renamed[slot] for slot in tier) for tier in tiers
            )
            for slate, tiers in old.items()
        }
        assert play_at_once(topology, num_candidates, known.__getitem__, seed=2) == known


def play_order(num_candidates: int, seed: int) -> list[int]:
    from rewards.topologies.ordering import lots

    return lots(state_of(num_candidates, (), False, {}, seed))[0]


@every_config
def test_lots_come_from_the_seed(config: KWise) -> None:
    def first(seed: int) -> tuple[Slate, ...]:
        return tuple(build_topology(config).playable(state_of(24, range(24), True, {}, seed)))

    assert first(3) == first(3)
    assert len({first(seed) for seed in range(12)}) > 6


@every_config
def test_it_starts_before_all_have_arrived_where_there_is_more_than_one_slate(config: KWise) -> None:
    started = [
        bool(build_topology(config).playable(state_of(24, set(range(24)) - {late}, False, {}, 1))) for late in range(24)
    ]
    assert any(started)
    assert build_topology(KWise(kind="k_wise", k=8)).playable(state_of(8, range(7), False, {}, 1)) == []


@every_config
@pytest.mark.parametrize("arrived", [[], [3]])
@pytest.mark.parametrize("closed", [False, True])
def test_nobody_is_ranked_alone(config: KWise, arrived: list[int], closed: bool) -> None:
    assert build_topology(config).playable(state_of(5, arrived, closed, {}, 0)) == []


@every_config
def test_more_candidates_never_have_a_smaller_bound(config: KWise) -> None:
    bounds = [build_topology(config).max_matches(n) for n in range(1, 65)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0


def test_it_names_slates_and_plans_no_batch() -> None:
    topology = build_topology(CONFIGS[0])
    assert isinstance(topology, SlateTopology)
    assert not isinstance(topology, BatchTopology)


@pytest.mark.parametrize(
    ("k", "calls"), [(4, {4: 1, 5: 8, 8: 8, 16: 20, 17: 30, 32: 48, 33: 63}), (2, {2: 1, 3: 6, 8: 16}), (16, {16: 1})]
)
def test_calls_by_hand(k: int, calls: dict[int, int]) -> None:
    # K = 4: 1 + ceil(log2 N) rounds, 4 for 8, 5 for 16, 6 for 17 to 32, of ceil(N / 4) slates.
    assert {n: KWiseTopology(k).max_matches(n) for n in calls} == calls


def test_rounds_by_hand() -> None:
    assert [slate_rounds(3, None, n) for n in (3, 4, 5, 8, 9, 33)] == [1, 3, 4, 4, 5, 7]
    assert slate_rounds(4, 9, 5) == 9
    assert slate_rounds(4, 9, 4) == 1


def test_sizes_by_hand() -> None:
    assert [slate_sizes(n, 4) for n in (2, 4, 5, 9, 11, 14)] == [[2], [4], [3, 2], [3, 3, 3], [4, 4, 3], [4, 4, 3, 3]]


def test_everybody_meets_everybody_else_before_anybody_meets_twice() -> None:
    """16 in slates of 4: each round of the first two adds three new opponents for everybody."""
    rankings = play_at_once(KWiseTopology(4, 2), 16, lower_first, seed=2)
    met = Counter(pair for slate in rankings for pair in combinations(slate.members, 2))
    assert len(met) == 48
    assert set(met.values()) == {1}


def test_the_last_round_ranks_neighbours_when_all_have_met() -> None:
    """Six in slates of three: rounds until all have met, then the three best and the three worst stay together."""
    rankings = play_at_once(KWiseTopology(3, 12), 6, lower_first, seed=0)
    met: Counter[tuple[int, int]] = Counter()
    for slate in rankings:
        met.update(combinations(slate.members, 2))
    assert len(met) == 15
    assert max(met.values()) - min(met.values()) <= 2


class TestMatchmaking:
    def test_standings_by_hand(self) -> None:
        table = Standings([7, 1, 4, 2])
        table.enter(((1,), (4, 7)))
        table.enter(((7,), (2,)))
        table.enter(())
        # 1: two of two. 7: half of (4), nothing of (1), one of (2). 4: half. 2: none.
        assert [table.standing(slot) for slot in (1, 7, 4, 2)] == [3 / 4, 2.5 / 5, 1.5 / 4, 1 / 3]
        assert sorted((7, 1, 4, 2), key=table.turn) == [2, 1, 4, 7]

    def test_who_fits_is_met_least_then_nearest_then_by_lot(self) -> None:
        table = Standings([0, 1, 2, 3, 4])
        table.enter(((0,), (1,)))
        table.enter(((2,), (3,)))
        # Standings 2/3, 1/3, 2/3, 1/3, 1/2; 0 has met only 1.
        assert sorted((1, 2, 3, 4), key=lambda slot: table.fit(slot, [0])) == [2, 4, 3, 1]
        assert table.fit(3, [0, 2])[0] == 1

    def test_a_missing_ranking_is_a_gap_whose_members_choose_first(self) -> None:
        """Round 0 of 8 has two slates; without a ranking of the second, its members are the pivots of round 1."""
        topology = KWiseTopology(4, 2)
        one, other = topology.playable(state_of(8, range(8), True, {}, 0))
        rankings = {one: lower_first(one), other: ()}
        slates = topology.playable(state_of(8, range(8), True, rankings, 0))
        assert [slate.round for slate in slates] == [1, 1]
        # The pivot comes from the gap and has met nobody: all its slate is as unmet, and level ones stand nearest.
        assert other.members in [slate.members for slate in slates]
        met = play_at_once(topology, 8, lambda slate: lower_first(slate) if slate != other else ())
        assert len(met) == 4

    def test_one_left_over_is_ranked_with_the_first_of_the_others(self) -> None:
        """Nine are dealt as 3, 3, 3; with two of one block absent the third meets the first three of the lot."""
        order = play_order(9, 4)
        arrived = set(order) - {order[7], order[8]}
        slates = KWiseTopology(4).playable(state_of(9, arrived, True, {}, 4))
        assert sorted(slate.members for slate in slates) == sorted(
            tuple(sorted(members)) for members in (order[:3], order[3:6], [order[6], *order[:3]])
        )

    def test_once_all_stand_in_one_ranking_no_round_follows(self) -> None:
        rankings = play_at_once(KWiseTopology(4, 5), 12, lower_first, seed=1, arrived=[2, 5, 9])
        assert Slate((2, 5, 9), max(slate.round for slate in rankings)) in rankings
        assert len(rankings) <= 2
