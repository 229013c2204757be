"""A simulated batch whose groups share one budget of judge calls (ours). Shapes: G groups, N candidates."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rewards.aggregators.votes import FloatArray
from rewards.simulate import Orders, SimulatedJudge, draw_seats
from rewards.types import BatchTopology, Match, MatchLog, Pairing, TournamentState


def play_batch(
    topology: BatchTopology,
    judge: SimulatedJudge,
    strengths_GN: FloatArray,
    rng: np.random.Generator,
    *,
    calls_per_group: int | None = None,
    orders: Orders = "random",
    symmetric: bool = False,
) -> list[MatchLog]:
    """Every group's opening, then the topology's rounds over the batch until it names no pairing.

    Each group has a generator of its own, spawned from `rng`, so what one group draws does not depend on how many
    matches the others play. A symmetric judge is asked once a match.

    Args:
        calls_per_group: a limit on all calls, times the number of groups, on top of the topology's own. The opening
            is played whatever it costs, as in the arena.

    Raises:
        ValueError: the topology named more calls than were left.
    """
    calls_per_match = 2 if orders == "both" and not symmetric else 1
    groups = [
        _SimulatedGroup(strengths_N, judge, generator, orders=orders, symmetric=symmetric)
        for strengths_N, generator in zip(strengths_GN, rng.spawn(len(strengths_GN)), strict=True)
    ]
    for group in groups:
        while opening := topology.playable(group.state):
            group.play(opening)
    while True:
        calls_left = None
        if calls_per_group is not None:
            played = sum(len(group.matches) for group in groups)
            calls_left = max(0, calls_per_group * len(groups) - calls_per_match * played)
        plan = topology.next_round(
            [group.state for group in groups],
            [group.log for group in groups],
            calls_per_match=calls_per_match,
            calls_left=calls_left,
        )
        planned = sum(map(len, plan))
        if not planned:
            return [group.log for group in groups]
        if calls_left is not None and calls_per_match * planned > calls_left:
            raise ValueError(f"the topology planned {planned} matches with {calls_left} calls left")
        for group, pairings in zip(groups, plan, strict=True):
            group.play(pairings)


class _SimulatedGroup:
    """One group's tournament, all candidates there from the start."""

    def __init__(
        self,
        strengths_N: FloatArray,
        judge: SimulatedJudge,
        rng: np.random.Generator,
        *,
        orders: Orders,
        symmetric: bool,
    ) -> None:
        self.matches: list[Match] = []
        self._judge = judge
        self._rng = rng
        self._gaps_NN = judge.perceive(strengths_N, rng)
        self._seed = int(rng.integers(2**63))
        self._results: dict[Pairing, float | None] = {}
        self._orders: Orders = orders
        self._symmetric = symmetric

    @property
    def state(self) -> TournamentState:
        size = len(self._gaps_NN)
        return TournamentState(size, frozenset(range(size)), True, dict(self._results), self._seed)

    @property
    def log(self) -> MatchLog:
        return MatchLog(len(self._gaps_NN), self._judge.kind, tuple(self.matches), self._symmetric)

    def play(self, pairings: Iterable[Pairing]) -> None:
        for pairing in pairings:
            seats = draw_seats(pairing, self._orders, self._symmetric, self._rng)
            calls = tuple(self._judge.call(self._gaps_NN, first, second, self._rng) for first, second in seats)
            match = Match(pairing, calls)
            self.matches.append(match)
            self._results[pairing] = match.result(self._judge.kind)
