"""Spares judge calls: a pair that a verifiable score tells apart is decided by that score.

    soft gate --scores--> differ by more than `margin`? --yes--> a verdict of the verifier: 1 or 0, no call, attempts 0
                                                        --no---> the judge is asked, as ever

After Reasoning Arena (arXiv 2606.09380), which sends a group to the judge only where its verifiable rewards are equal;
here it is pairs, so that those who passed are still ranked among each other (ours). A verdict of the verifier stands in
the match log under its own name and is a true one: nobody invented it. It counts as much as what the judge would have
been asked about the pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rewards.seating import pair_seats
from rewards.types import ROUTER, Call, Pairing, Verdict


@dataclass(frozen=True, slots=True)
class Router:
    """gate: name of the soft gate whose scores decide. margin: scores this close, or closer, are left to the judge."""

    gate: str
    margin: float = 0.0

    @property
    def name(self) -> str:
        """How the match log calls the verifier."""
        return f"{ROUTER}{self.gate}"

    def decide(self, pairing: Pairing, scores: Mapping[int, Mapping[str, float]]) -> float | None:
        """1 if `a` wins, 0 if `b` does, None if the judge must be asked.

        Args:
            scores: by slot and soft gate.
        """
        one, other = (scores.get(slot, {}).get(self.gate) for slot in (pairing.a, pairing.b))
        if one is None or other is None or abs(one - other) <= self.margin:
            return None
        return float(one > other)

    def calls(
        self, pairing: Pairing, value: float, *, calls_per_item: int, symmetric: bool, seed: int
    ) -> tuple[Call, ...]:
        """The verifier's verdict as the match log has it: in both orders where the judge would have been asked in both,
        else seated by lot, so that it can look like no lean to a seat.

        Args:
            value: seen from `a`. calls_per_item: what a match costs when the judge is asked.
        """
        seats = pair_seats(pairing, "both" if calls_per_item > 1 else "random", symmetric, seed)
        return tuple(
            Call(
                first,
                second,
                Verdict(value if first == pairing.a else 1.0 - value, reason=f"{self.gate} differs", attempts=0),
                self.name,
                weight=calls_per_item / len(seats),
            )
            for first, second in seats
        )
