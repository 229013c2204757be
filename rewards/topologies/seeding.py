"""How a bracket is seeded: by lot, by a cheap prior, or by a round against one anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rewards.topologies.ordering import by_prior, lots, mean_result, members_known, pair, seen_from, unplayed
from rewards.types import Pairing, TournamentState

Seeding = Literal["random", "anchor", "prior"]


@dataclass(frozen=True, slots=True)
class Draw:
    """waiting: matches of the seeding round that can be played now. seeds: best first, None while unknown."""

    waiting: list[Pairing]
    seeds: list[int] | None


def draw_seeds(state: TournamentState, seeding: Seeding) -> Draw:
    """The seeds of a bracket.

    random: a lot over all slots, known at once, so that the bracket itself streams; an absent slot is a bye later.
    prior: best prior score first, lots among equals, once the field is known.
    anchor: everybody meets the anchor in round 0, as they arrive; then by the result against it (win, level or no
        verdict, loss), the anchor by its own mean result; equals by the prior, then by lot (ArenaRL, arXiv 2601.06487).
    """
    if seeding == "random":
        return Draw([], lots(state)[0])
    if seeding == "prior":
        return Draw([], by_prior(state) if members_known(state) else None)
    anchor = first_anchor(state)
    if anchor is None:
        return Draw([], None)
    meetings = {i: pair(anchor, i) for i in sorted(state.arrived) if i != anchor}
    waiting = unplayed(meetings.values(), state.results)
    if waiting or not members_known(state):
        return Draw(waiting, None)
    standing = {i: mean_result([seen_from(i, meeting, state.results[meeting])]) for i, meeting in meetings.items()}
    standing[anchor] = mean_result(seen_from(anchor, meeting, state.results[meeting]) for meeting in meetings.values())
    return Draw([], sorted(by_prior(state), key=lambda i: -standing[i]))


def seeding_matches(num_candidates: int, seeding: Seeding) -> int:
    return num_candidates - 1 if seeding == "anchor" else 0


def first_anchor(state: TournamentState) -> int | None:
    """Slot 0, or the lowest slot that arrived once the field is known; None while it is not."""
    if 0 in state.arrived:
        return 0
    return min(state.arrived) if state.arrived and members_known(state) else None
