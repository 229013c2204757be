"""Adaptive: one budget of calls for the batch, spent where it tells most about the rewards (ours).

opening    everybody meets somebody, by lot, as rollouts arrive                  ceil(N/2) matches a group
round r    posterior of the batch as in empirical Bayes -> every group names its best matches (acquisition.py)
           -> the batch plays the best of all groups; a group that is settled, or level, hands its calls on
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators.laplace import ScaleFits, fit_scales
from rewards.aggregators.mixture import fit_mixture
from rewards.aggregators.prior import SCALE_COUNT
from rewards.aggregators.votes import FloatArray, verdict_table
from rewards.topologies.acquisition import pick_matches
from rewards.topologies.ordering import lots, members_known, pair, unplayed
from rewards.types import MatchLog, Pairing, TournamentState

CHUNK_GROUPS = 64
"""Groups that are planned at once: their arrays stay small."""


class AdaptiveTopology:
    """At most `calls_per_group` times the number of groups calls, or the opening's where those are more, in `rounds`
    rounds after the opening.

    Of two plans the one is better that leaves less posterior variance in the rewards of the whole batch, under the
    model of empirical Bayes with its default prior; matches of one round are chosen jointly. A pair plays once: a
    missing verdict is a gap, and the pair is not asked again. `probability` verdicts count as fractions of a vote,
    `score` verdicts by their sign. A group may get all N(N-1)/2 matches or none beyond its opening.

    Calls of the opening count, but only `rewards.budget` cuts it short. What is left is spread over the rounds left, so
    a batch whose budget is small has fewer matches a round, never more rounds.
    """

    def __init__(self, calls_per_group: int = 30, rounds: int = 10, scales: Sequence[float] = ()) -> None:
        self._calls_per_group = calls_per_group
        self._rounds = rounds
        self._scales_K = np.array(scales or (0.05, 0.3, 0.7, 1.2, 2.0, 3.0))

    def playable(self, state: TournamentState) -> list[Pairing]:
        """The opening: neighbours in a lot over all slots; those whose neighbour is absent meet each other."""
        return unplayed(_opening(state), state.results)

    def max_matches(self, num_candidates: int) -> int:
        """A bound for one group; for the batch see the class."""
        return num_candidates * (num_candidates - 1) // 2

    def next_round(
        self,
        states: Sequence[TournamentState],
        logs: Sequence[MatchLog],
        *,
        calls_per_match: int,
        calls_left: int | None,
    ) -> list[list[Pairing]]:
        plan: list[list[Pairing]] = [[] for _ in states]
        match_round = 1 + max((pairing.round for state in states for pairing in state.results), default=0)
        spent = sum(len(match.calls) for log in logs for match in log.matches)
        left = self._calls_per_group * len(states) - spent
        left = left if calls_left is None else min(left, calls_left)
        rounds_left = self._rounds - match_round + 1
        num_matches = ceil(left // calls_per_match / rounds_left) if rounds_left > 0 else 0
        if num_matches <= 0:
            return plan
        wishes = self._wishes(states, logs, calls_per_match)
        best = sorted(wishes, key=lambda wish: -wish.gain)[:num_matches]
        for wish in best:
            plan[wish.group].append(pair(wish.first, wish.second, match_round))
        return plan

    def _wishes(self, states: Sequence[TournamentState], logs: Sequence[MatchLog], calls_per_match: int) -> list[_Wish]:
        batches = [_SizeBatch(members, states, logs) for members in _by_size(states).values()]
        fits = [fit_scales(batch.wins_GNN, batch.votes_GNN, self._scales_K) for batch in batches]
        if not batches:
            return []
        counts_K = np.full(len(self._scales_K), SCALE_COUNT)
        _, responsibilities_GK = fit_mixture(np.concatenate([fit.log_evidence_GK for fit in fits]), counts_K)
        wishes: list[_Wish] = []
        start = 0
        for batch, fit in zip(batches, fits, strict=True):
            for low in range(0, len(batch.groups), CHUNK_GROUPS):
                part = slice(low, low + CHUNK_GROUPS)
                shares_GK = responsibilities_GK[start:][: len(batch.groups)][part]
                wishes += batch.wishes(part, fit, shares_GK, calls_per_match)
            start += len(batch.groups)
        return wishes


@dataclass(frozen=True, slots=True)
class _Wish:
    """A match that a group would like to play, and the variance that it is good for."""

    group: int
    first: int
    second: int
    gain: float


class _SizeBatch:
    """Groups with equally many members, as arrays over the members."""

    def __init__(self, groups: list[int], states: Sequence[TournamentState], logs: Sequence[MatchLog]) -> None:
        self.groups = groups
        self._members = [sorted(states[group].arrived) for group in groups]
        size = len(self._members[0])
        self.wins_GNN = np.zeros((len(groups), size, size))
        self.votes_GNN = np.zeros((len(groups), size, size))
        self._played_GNN = np.zeros((len(groups), size, size), dtype=bool)
        for row, (group, members) in enumerate(zip(groups, self._members, strict=True)):
            place = np.full(states[group].num_candidates, -1)
            place[members] = np.arange(size)
            table = verdict_table(logs[group])
            seats = (place[table.first_V], place[table.second_V])
            np.add.at(self.wins_GNN[row], seats, table.weight_V * table.wins_V)
            np.add.at(self.votes_GNN[row], seats, table.weight_V)
            for pairing in states[group].results:
                self._played_GNN[row, place[pairing.a], place[pairing.b]] = True

    def wishes(
        self, part: slice, fits: ScaleFits, responsibilities_GK: FloatArray, calls_per_match: int
    ) -> list[_Wish]:
        size = self.wins_GNN.shape[-1]
        first_P, second_P = np.triu_indices(size, 1)
        blocked_GP: NDArray[np.bool_] = self._played_GNN[part][:, first_P, second_P]
        picks = pick_matches(
            ScaleFits(*(getattr(fits, name)[part] for name in ScaleFits.__slots__)),
            responsibilities_GK,
            first_P,
            second_P,
            blocked_GP,
            num_picks=min(size, len(first_P)),
            calls_per_match=calls_per_match,
        )
        return [
            _Wish(self.groups[part][row], members[first_P[picked]], members[second_P[picked]], float(gain))
            for row, members in enumerate(self._members[part])
            for picked, gain in zip(picks.pairs_GL[row], picks.gains_GL[row], strict=True)
            if gain > 0.0
        ]


def _by_size(states: Sequence[TournamentState]) -> dict[int, list[int]]:
    sizes: dict[int, list[int]] = defaultdict(list)
    for group, state in enumerate(states):
        if len(state.arrived) > 1:
            sizes[len(state.arrived)].append(group)
    return dict(sorted(sizes.items()))


def _opening(state: TournamentState) -> list[Pairing]:
    order = lots(state)[0]
    pairs = [(i, j) for i, j in zip(order[::2], order[1::2], strict=False) if {i, j} <= state.arrived]
    if members_known(state):
        paired = {i for both in pairs for i in both}
        rest = [i for i in order if i in state.arrived and i not in paired]
        pairs += zip(rest[::2], rest[1::2], strict=False)
        if len(rest) % 2 and len(state.arrived) > 1:  # the last one meets the first of the others
            pairs.append((rest[-1], next(i for i in order if i in state.arrived and i != rest[-1])))
    return [pair(i, j) for i, j in pairs]
