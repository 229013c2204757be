"""Tournaments without an arena: all at once, or as an arena does it, with late arrivals and matches in flight."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from rewards.types import Pairing, Topology, TournamentState

Results = dict[Pairing, float | None]
ResultOf = Callable[[Pairing], float | None]


def offered(topology: Topology, state: TournamentState, rng: random.Random | None = None) -> list[Pairing]:
    """`playable`, checked: known, arrived, distinct, without a result; the same again however the state was built."""
    playable = topology.playable(state)
    assert len(set(playable)) == len(playable), "a pairing is offered twice"
    assert not set(playable) & set(state.results), "a pairing was played already"
    assert all({pairing.a, pairing.b} <= state.arrived for pairing in playable), "somebody is not there"
    if rng is not None and rng.random() < 0.3:
        items, arrived = list(state.results.items()), list(state.arrived)
        rng.shuffle(items)
        rng.shuffle(arrived)
        rebuilt = TournamentState(
            state.num_candidates, frozenset(arrived), state.closed, dict(items), state.seed, state.prior_scores
        )
        assert topology.playable(rebuilt) == playable, "the list depends on more than the state"
    return playable


def play_at_once(
    topology: Topology,
    num_candidates: int,
    result_of: ResultOf,
    *,
    seed: int = 0,
    arrived: Iterable[int] | None = None,
    prior_scores: Mapping[int, float] | None = None,
    rng: random.Random | None = None,
) -> Results:
    """Everybody who comes is there from the start; what is playable is played as one round."""
    field = frozenset(range(num_candidates) if arrived is None else arrived)
    results: Results = {}
    while True:
        state = TournamentState(num_candidates, field, True, results, seed, prior_scores or {})
        playable = offered(topology, state, rng)
        if not playable:
            return results
        results.update({pairing: result_of(pairing) for pairing in playable})
        assert len(results) <= topology.max_matches(max(1, len(field))), "more matches than announced"


def play_live(
    topology: Topology,
    num_candidates: int,
    result_of: ResultOf,
    rng: random.Random,
    *,
    seed: int = 0,
    arrivals: Iterable[int] | None = None,
    prior_scores: Mapping[int, float] | None = None,
) -> Results:
    """Like an arena: what is offered once is played, whatever is offered later, and verdicts come back in any order."""
    pending = list(range(num_candidates) if arrivals is None else arrivals)
    announced = topology.max_matches(max(1, len(pending)))
    arrived: set[int] = set()
    closed = False
    in_flight: list[Pairing] = []
    results: Results = {}
    while True:
        scores = {i: score for i, score in (prior_scores or {}).items() if i in arrived}
        state = TournamentState(num_candidates, frozenset(arrived), closed, dict(results), seed, scores)
        in_flight += [pairing for pairing in offered(topology, state, rng) if pairing not in in_flight]
        assert len(results) + len(in_flight) <= announced, "more matches than announced"
        if in_flight and (closed or rng.random() < 0.6):
            for _ in range(rng.randint(1, len(in_flight))):
                pairing = in_flight.pop(rng.randrange(len(in_flight)))
                results[pairing] = result_of(pairing)
        elif pending:
            for _ in range(rng.randint(1, len(pending))):
                arrived.add(pending.pop(rng.randrange(len(pending))))
        elif not closed:
            closed = True
        else:
            return results


def random_results(world: int, values: Iterable[float | None] = (1.0, 0.0, 0.5, None)) -> ResultOf:
    """Verdicts by lot, the same for the same pairing in the same world."""
    choices = list(values)
    return lambda pairing: choices[hash((world, pairing.a, pairing.b, pairing.round)) // 7 % len(choices)]


def by_strength(strengths: Mapping[int, float]) -> ResultOf:
    """A transitive judge without noise; level where the strengths are."""

    def result_of(pairing: Pairing) -> float:
        a, b = strengths[pairing.a], strengths[pairing.b]
        return 1.0 if a > b else 0.0 if a < b else 0.5

    return result_of


def lower_wins(pairing: Pairing) -> float:
    """Candidate 0 is the best, 1 the second best, and so on."""
    return 1.0


def winner(pairing: Pairing, result: float | None) -> int | None:
    return {1.0: pairing.a, 0.0: pairing.b}.get(result) if result is not None else None


def falling(num_candidates: int) -> dict[int, float]:
    """Prior scores that put slot 0 first and the last slot last."""
    return {i: -float(i) for i in range(num_candidates)}
