"""Repeated knockout: several independent random brackets over the same group."""

from __future__ import annotations

from rewards.topologies.brackets import Bracket, num_rounds
from rewards.topologies.ordering import lots
from rewards.types import Pairing, TournamentState


class RepeatedKnockoutTopology:
    """K(N-1) matches in K brackets, each drawn by a lot of its own (Tournament-GRPO, arXiv 2605.26958, two per match).

    All repetitions run at once and stream; repetition k (0..K-1) has rounds k R + 1..k R + R, R = ceil(log2 N), so two
    who meet in several brackets are judged again. A slot that never arrives is a bye. A tie or a missing verdict
    lets the better seed of that repetition's lot advance; nothing is logged for it.
    """

    def __init__(self, repeats: int = 4) -> None:
        self._repeats = repeats

    def playable(self, state: TournamentState) -> list[Pairing]:
        playable: list[Pairing] = []
        for repeat, seeds in enumerate(lots(state, self._repeats)):
            bracket = Bracket(seeds, state)
            bracket.knockout(1 + repeat * num_rounds(state.num_candidates))
            playable += bracket.playable
        return playable

    def max_matches(self, num_candidates: int) -> int:
        """Exact."""
        return self._repeats * (num_candidates - 1)
