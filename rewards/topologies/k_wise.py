"""K-wise: candidates are ranked in slates of at most K, one judge call each; rounds mix who stands beside whom.

round 0      blocks of a lot over all slots, each played as soon as its members are there
round r      those compared least choose first: whom they met least, then whose standing is nearest
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import ceil

from rewards.topologies.brackets import num_rounds
from rewards.topologies.ordering import lots, members_known
from rewards.types import Slate, TournamentState


class KWiseTopology:
    """R rounds of ceil(N/K) slates, one slate when N <= K; after K-Sort Arena (arXiv 2408.14468), its rounds ours.

    Sizes of a round's slates differ by at most one. Only with K = 2 can one candidate be left over: it is ranked with
    one who plays twice in that round. Default R: 1 + ceil(log2 N): for K = 4 and N = 8 to 32 a round less costs more
    fidelity than another one brings (`rewards/simulation_grid.py`).

    Round 0 streams. Those whose block has somebody who never arrives are dealt anew, in lot order, once the group is
    closed; one left over is ranked with the first K - 1 of the others. A later round waits for the one before it. Its
    slates are filled one by one, larger ones first: the candidate compared with fewest others is the pivot (as in
    K-Sort; among equals the better standing, then the lot); then, until the slate is full, who met its members least
    often, among equals who stands nearest to the pivot. Standing, for this choice only: (pairs won + 1) / (pairs + 2),
    a level pair half a win.

    A slate without a ranking is a gap and is not asked again: its members do not count as compared nor as having met,
    so they choose first in the next round. Once one slate held everybody who arrived, no round follows.
    """

    def __init__(self, k: int = 4, rounds: int | None = None) -> None:
        self._k = k
        self._rounds = rounds

    @property
    def slate_size(self) -> int:
        return self._k

    def playable(self, state: TournamentState) -> list[Slate]:
        known = members_known(state)
        played: list[Slate] = []
        for slate_round in range(slate_rounds(self._k, self._rounds, state.num_candidates)):
            if any(len(slate.members) >= len(state.arrived) for slate in played) or (known and len(state.arrived) < 2):
                break
            slates = self._opening(state) if slate_round == 0 else self._next_round(state, played, slate_round)
            waiting = [slate for slate in slates if slate not in state.rankings]
            if waiting or not known:
                return waiting
            played += slates
        return []

    def max_matches(self, num_candidates: int) -> int:
        """Slates; exact when all arrive."""
        rounds = slate_rounds(self._k, self._rounds, num_candidates)
        return rounds * ceil(num_candidates / self._k) if num_candidates > 1 else 0

    def _opening(self, state: TournamentState) -> list[Slate]:
        order = lots(state)[0]
        blocks = deal(order, slate_sizes(len(order), self._k))
        slates = [block for block in blocks if len(block) > 1 and state.arrived.issuperset(block)]
        if members_known(state):
            placed = {slot for block in slates for slot in block}
            arrived = [slot for slot in order if slot in state.arrived]
            rest = [slot for slot in arrived if slot not in placed]
            for block in deal(rest, slate_sizes(len(rest), self._k)):
                others = [slot for slot in arrived if slot not in block]
                slates.append(block if len(block) > 1 else block + others[: self._k - 1])
        return [Slate(tuple(sorted(block)), 0) for block in slates if len(block) > 1]

    def _next_round(self, state: TournamentState, played: Iterable[Slate], slate_round: int) -> list[Slate]:
        table = Standings([slot for slot in lots(state)[0] if slot in state.arrived])
        for slate in played:
            table.enter(state.rankings[slate])
        unplaced = table.members
        slates: list[Slate] = []
        for size in slate_sizes(len(unplaced), self._k):
            pivot = min(unplaced, key=table.turn)
            members = [pivot]
            while len(members) < max(size, 2):
                pool = [slot for slot in unplaced if slot not in members]
                pool = pool or [slot for slot in table.members if slot not in members]
                members.append(min(pool, key=lambda slot: table.fit(slot, members)))
            unplaced = [slot for slot in unplaced if slot not in members]
            slates.append(Slate(tuple(sorted(members)), slate_round))
        return slates


class Standings:
    """What the rankings so far say, as pairs. `members` in lot order, which breaks ties."""

    def __init__(self, members: Sequence[int]) -> None:
        self.members = list(members)
        self._lot = {slot: number for number, slot in enumerate(members)}
        self._half_wins: defaultdict[int, int] = defaultdict(int)
        self._pairs: defaultdict[int, int] = defaultdict(int)
        self._met: defaultdict[tuple[int, int], int] = defaultdict(int)

    def enter(self, tiers: Sequence[Sequence[int]]) -> None:
        """One ranking, from best to worst; none where there are no tiers."""
        placed = [(slot, level) for level, tier in enumerate(tiers) for slot in tier]
        for slot, level in placed:
            for other, other_level in placed:
                if slot != other:
                    self._pairs[slot] += 1
                    self._met[slot, other] += 1
                    self._half_wins[slot] += 1 + (level < other_level) - (level > other_level)

    def standing(self, slot: int) -> float:
        return (self._half_wins[slot] / 2 + 1) / (self._pairs[slot] + 2)

    def turn(self, slot: int) -> tuple[float, ...]:
        """Whose turn it is to choose: the smallest."""
        return self._pairs[slot], -self.standing(slot), self._lot[slot]

    def fit(self, slot: int, slate: Sequence[int]) -> tuple[float, ...]:
        """How well somebody fits a slate, whose first member is the pivot: the smaller the better."""
        met = sum(self._met[slot, member] for member in slate)
        return met, abs(self.standing(slot) - self.standing(slate[0])), self._lot[slot]


def slate_rounds(k: int, wanted: int | None, num_candidates: int) -> int:
    """Rounds that are played: the wanted ones, or 1 + ceil(log2 N); one when all fit one slate."""
    return 1 if num_candidates <= k else wanted or 1 + num_rounds(num_candidates)


def slate_sizes(num_members: int, k: int) -> list[int]:
    """Sizes of ceil(n/k) slates over n members, as even as can be, larger ones first."""
    num_slates = ceil(num_members / k)
    return [(num_members + num_slates - 1 - index) // num_slates for index in range(num_slates)]


def deal(order: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Consecutive pieces of an order."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [list(order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
