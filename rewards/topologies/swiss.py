"""Swiss: in every round neighbours in the standings meet, never twice the same two.

round 1      neighbours in the first order (by lot or by prior)
round r      order by points, then Buchholz, then the first order; the bye; neighbours who have not met
"""

from __future__ import annotations

from typing import Literal

from rewards.topologies.brackets import num_rounds
from rewards.topologies.ordering import by_prior, lots, members_known, pair, seen_from, unplayed
from rewards.types import Pairing, TournamentState


class SwissTopology:
    """floor(N/2) matches in each of R rounds; default R = ceil(log2 N) (ArenaRL, arXiv 2601.06487).

    Pairing: from the top, each meets the nearest one below whom it has not met. Two who are left over and have met
    swap partners with a pair, the lowest one that can. That never fails while R <= max(floor(N/2), ceil(log2 N)): each
    of the n to be paired still has n/2 others, so some pair has three links to the two (Dirac's condition; N = 3 and 5
    by hand). More rounds are not played. So nobody meets twice. With a transitive judge and the default R only the best
    is unbeaten; with N = 5 there may be two.

    Points, for the pairing only, nothing is logged: a win 1, a tie 1/2, a missing verdict 1/2, a bye 1. Buchholz: the
    sum of the opponents' points. With an odd number the bye goes to the lowest in the standings who has not had one.

    A random first order streams round 1: neighbours in a lot over all slots; those whose neighbour never arrives meet
    each other once the group is closed. With `seeding="prior"` everybody is awaited. A later round waits for the one
    before it.
    """

    def __init__(self, rounds: int | None = None, seeding: Literal["random", "prior"] = "random") -> None:
        self._rounds = rounds
        self._seeding = seeding

    def playable(self, state: TournamentState) -> list[Pairing]:
        known = members_known(state)
        if self._seeding == "prior" and not known:
            return []
        first_order = lots(state)[0] if self._seeding == "random" else by_prior(state)
        table = Table([i for i in first_order if i in state.arrived])
        for match_round in range(1, swiss_rounds(self._rounds, len(state.arrived)) + 1):
            if match_round == 1:
                pairs, bye = _first_round(first_order, state, known)
            else:
                pairs, bye = table.next_round()
            pairings = [pair(i, j, match_round) for i, j in pairs]
            waiting = unplayed(pairings, state.results)
            if waiting or not known:
                return waiting
            table.enter(pairings, bye, state)
        return []

    def max_matches(self, num_candidates: int) -> int:
        """Exact."""
        return num_candidates // 2 * swiss_rounds(self._rounds, num_candidates)


def swiss_rounds(wanted: int | None, num_candidates: int) -> int:
    """Rounds that are played: the wanted ones or ceil(log2 N), as long as nobody need meet twice."""
    default = num_rounds(num_candidates)
    return min(wanted or default, max(default, num_candidates // 2))


class Table:
    """The standings of a Swiss tournament. `first_order` breaks ties, best first."""

    def __init__(self, first_order: list[int]) -> None:
        self.points: dict[int, float] = dict.fromkeys(first_order, 0.0)
        self._opponents: dict[int, list[int]] = {i: [] for i in first_order}
        self._had_bye: set[int] = set()

    def enter(self, pairings: list[Pairing], bye: int | None, state: TournamentState) -> None:
        """The results of one round."""
        for pairing in pairings:
            for i, opponent in ((pairing.a, pairing.b), (pairing.b, pairing.a)):
                result = seen_from(i, pairing, state.results[pairing])
                self.points[i] += 0.5 if result is None else result
                self._opponents[i].append(opponent)
        if bye is not None:
            self.points[bye] += 1.0
            self._had_bye.add(bye)

    def standings(self) -> list[int]:
        """Best first: points, Buchholz, first order."""
        buchholz = {i: sum(self.points[j] for j in opponents) for i, opponents in self._opponents.items()}
        return sorted(self.points, key=lambda i: (-self.points[i], -buchholz[i]))

    def next_round(self) -> tuple[list[tuple[int, int]], int | None]:
        """Who meets whom, and who has the bye."""
        order = self.standings()
        bye = None
        if len(order) % 2:
            bye = next(i for i in reversed(order) if i not in self._had_bye)
            order.remove(bye)
        return self._pair_neighbours(order), bye

    def _pair_neighbours(self, order: list[int]) -> list[tuple[int, int]]:
        pairs: list[tuple[int, int]] = []
        left_over: list[int] = []
        while order:
            upper = order.pop(0)
            lower = next((i for i in order if i not in self._opponents[upper]), None)
            if lower is None:
                left_over.append(upper)
            else:
                order.remove(lower)
                pairs.append((upper, lower))
        while left_over:
            low, high = left_over.pop(), left_over.pop()
            index, swapped = next(
                (index, swapped)
                for index, (i, j) in reversed(list(enumerate(pairs)))
                for swapped in (((high, i), (j, low)), ((high, j), (i, low)))
                if all(b not in self._opponents[a] for a, b in swapped)
            )
            pairs[index : index + 1] = swapped
        return pairs


def _first_round(
    first_order: list[int], state: TournamentState, known: bool
) -> tuple[list[tuple[int, int]], int | None]:
    """Neighbours who are both there; once the field is known, also those whose neighbour is not, and the bye."""
    neighbours = list(zip(first_order[::2], first_order[1::2], strict=False))
    pairs = [(i, j) for i, j in neighbours if i in state.arrived and j in state.arrived]
    if not known:
        return pairs, None
    paired = {i for both in pairs for i in both}
    rest = [i for i in first_order if i in state.arrived and i not in paired]
    pairs += zip(rest[::2], rest[1::2], strict=False)
    return pairs, rest[-1] if len(rest) % 2 else None
