"""Tournaments of slates without an arena: all at once, or with late arrivals and rankings in flight."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from rewards.types import Slate, SlateTopology, TournamentState

Tiers = tuple[tuple[int, ...], ...]
Rankings = dict[Slate, Tiers]
TiersOf = Callable[[Slate], Tiers]


def state_of(
    num_candidates: int, arrived: Iterable[int], closed: bool, rankings: Mapping[Slate, Tiers], seed: int
) -> TournamentState:
    return TournamentState(num_candidates, frozenset(arrived), closed, {}, seed, rankings=rankings)


def offered(topology: SlateTopology, state: TournamentState, rng: random.Random) -> list[Slate]:
    """`playable`, checked: arrived, distinct, no larger than allowed, without a ranking; the same from equal states."""
    playable = topology.playable(state)
    assert len(set(playable)) == len(playable), "a slate is offered twice"
    assert not set(playable) & set(state.rankings), "a slate was ranked already"
    assert all(state.arrived.issuperset(slate.members) for slate in playable), "somebody is not there"
    assert all(2 <= len(slate.members) <= topology.slate_size for slate in playable)
    if rng.random() < 0.8:
        return playable
    items, arrived = list(state.rankings.items()), list(state.arrived)
    rng.shuffle(items)
    rng.shuffle(arrived)
    again = state_of(state.num_candidates, arrived, state.closed, dict(items), state.seed)
    assert topology.playable(again) == playable, "the list depends on more than the state"
    return playable


def play_at_once(
    topology: SlateTopology,
    num_candidates: int,
    tiers_of: TiersOf,
    *,
    seed: int = 0,
    arrived: Iterable[int] | None = None,
) -> Rankings:
    """Everybody who comes is there from the start; what is playable is played as one round."""
    field = range(num_candidates) if arrived is None else arrived
    rankings: Rankings = {}
    rng = random.Random(seed)
    while playable := offered(topology, state_of(num_candidates, field, True, rankings, seed), rng):
        rankings.update({slate: tiers_of(slate) for slate in playable})
        assert len(rankings) <= topology.max_matches(num_candidates), "more slates than announced"
    return rankings


def play_live(
    topology: SlateTopology,
    num_candidates: int,
    tiers_of: TiersOf,
    rng: random.Random,
    *,
    seed: int = 0,
    arrivals: Iterable[int] | None = None,
) -> Rankings:
    """Like an arena: what is offered once is played, whatever is offered later; rankings come back in any order."""
    pending = list(range(num_candidates) if arrivals is None else arrivals)
    arrived: set[int] = set()
    closed = False
    in_flight: list[Slate] = []
    rankings: Rankings = {}
    while True:
        state = state_of(num_candidates, arrived, closed, dict(rankings), seed)
        in_flight += [slate for slate in offered(topology, state, rng) if slate not in in_flight]
        if in_flight and (closed or rng.random() < 0.6):
            for _ in range(rng.randint(1, len(in_flight))):
                slate = in_flight.pop(rng.randrange(len(in_flight)))
                rankings[slate] = tiers_of(slate)
        elif pending:
            for _ in range(rng.randint(1, len(pending))):
                arrived.add(pending.pop(rng.randrange(len(pending))))
        elif not closed:
            closed = True
        else:
            return rankings


def random_tiers(world: int, *, failing: float = 0.0) -> TiersOf:
    """Rankings by lot with ties, the same for the same slate in the same world; a share of them is missing."""

    def tiers_of(slate: Slate) -> Tiers:
        rng = random.Random(hash((world, slate.members, slate.round)))
        if rng.random() < failing:
            return ()
        levels = {slot: rng.randrange(3) for slot in slate.members}
        return tuple(
            tuple(slot for slot in slate.members if levels[slot] == level) for level in sorted(set(levels.values()))
        )

    return tiers_of


def lower_first(slate: Slate) -> Tiers:
    """Candidate 0 is the best, 1 the second best, and so on."""
    return tuple((slot,) for slot in slate.members)
