"""Heapsort: a whole order from O(N log N) comparisons, one after the other."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from rewards.topologies.ordering import by_prior, lots, members_known, pair, seen_from
from rewards.types import Pairing, TournamentState


class HeapsortTopology:
    """Comparisons of a heapsort, serial, at most 2N log2 N (PRP, arXiv 2306.17563; heap as Floyd 1964 builds it).

    With a heap of m places, sifting down from place i asks at most 2 floor(log2(m / i)) times. The bound adds this up
    for building (m = N, i = N/2..1) and for taking the best out (m = N-1..2, i = 1), and is never more than N(N-1)/2,
    because two who met before are not asked again: their verdict is used once more. The count depends on the verdicts.
    A transitive judge gives the whole order; an intransitive one gives no guarantee.

    First order: `random` (by lot) or `prior` (best first, lots among equals). Nothing streams: a heap needs everybody.
    A tie or a missing verdict counts for the one that stands earlier in the first order; nothing is logged for it.
    """

    def __init__(self, seeding: Literal["random", "prior"] = "prior") -> None:
        self._seeding = seeding

    def playable(self, state: TournamentState) -> list[Pairing]:
        asked, _ = self._replay(state)
        return [asked] if asked is not None else []

    def order(self, state: TournamentState) -> list[int] | None:
        """Best first, None while a verdict is awaited."""
        return self._replay(state)[1]

    def max_matches(self, num_candidates: int) -> int:
        """A bound: the count depends on the verdicts."""
        n = num_candidates
        building = sum(2 * _floor_log2(n // i) for i in range(1, n // 2 + 1))
        taking_out = sum(2 * _floor_log2(m) for m in range(2, n))
        return min(n * (n - 1) // 2, building + taking_out)

    def _replay(self, state: TournamentState) -> tuple[Pairing | None, list[int] | None]:
        """The comparison that is awaited, or the order."""
        if not members_known(state):
            return None, None
        first_order = [i for i in lots(state)[0] if i in state.arrived]
        if self._seeding == "prior":
            first_order = by_prior(state)
        place = {candidate: index for index, candidate in enumerate(first_order)}
        sorting = _heapsort(first_order)
        try:
            i, j = next(sorting)
            while True:
                pairing = pair(i, j)
                if pairing not in state.results:
                    return pairing, None
                result = seen_from(i, pairing, state.results[pairing])
                i, j = sorting.send(place[i] < place[j] if result in (None, 0.5) else result == 1.0)
        except StopIteration as done:
            return None, done.value


def _floor_log2(n: int) -> int:
    return n.bit_length() - 1


def _heapsort(candidates: list[int]) -> Generator[tuple[int, int], bool, list[int]]:
    """Yields (i, j), is sent whether i is better than j, returns the order, best first."""
    heap = list(candidates)
    for root in reversed(range(len(heap) // 2)):
        yield from _sift_down(heap, root)
    order: list[int] = []
    while heap:
        heap[0], heap[-1] = heap[-1], heap[0]
        order.append(heap.pop())
        yield from _sift_down(heap, 0)
    return order


def _sift_down(heap: list[int], root: int) -> Generator[tuple[int, int], bool, None]:
    while (child := 2 * root + 1) < len(heap):
        if child + 1 < len(heap) and (yield heap[child + 1], heap[child]):
            child += 1
        if not (yield heap[child], heap[root]):
            return
        heap[root], heap[child] = heap[child], heap[root]
        root = child
