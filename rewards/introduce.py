"""Lets a judge see some of a group before it compares any two of it, if it wants to.

Acquainted judge --wants_members--> the group waits until it is complete --> meet(best, middle, worst)
"""

from __future__ import annotations

from collections.abc import Mapping

from rewards.judges.panel import Panel
from rewards.seating import stable_hash
from rewards.tournament import Tournament
from rewards.types import Acquainted, Candidate, Prompt


async def introduce(judge: object, tournament: Tournament) -> None:
    """Returns at once for a judge that wants to see nobody. A group without two members is introduced to nobody.

    Each judge of a panel is asked by itself, and a judge that stands behind another (as its `judge`) is found there.
    """
    for one in await _wanting(judge, tournament.prompt):
        await tournament.complete()
        state = tournament.state
        members = three_of(tournament.candidates, state.prior_scores, state.seed)
        if len(members) > 1:
            one.meet(tournament.prompt, members)


async def num_wanting(judge: object, prompt: Prompt) -> int:
    """How many judges want to see a group of this prompt; each then asks its model once for the prompt's sake."""
    return len(await _wanting(judge, prompt))


async def _wanting(judge: object, prompt: Prompt) -> list[Acquainted]:
    wanting: list[Acquainted] = []
    for member in judge.members if isinstance(judge, Panel) else (judge,):
        one = member
        while not isinstance(one, Acquainted) and hasattr(one, "judge"):
            one = getattr(one, "judge")  # noqa: B009
        if isinstance(one, Acquainted) and await one.wants_members(prompt):
            wanting.append(one)
    return wanting


def three_of(candidates: Mapping[int, Candidate], prior_scores: Mapping[int, float], seed: int) -> list[Candidate]:
    """The best, the middle one and the worst by prior score; lots among equals, and where there are no scores."""
    ranked = sorted(candidates, key=lambda slot: (-prior_scores.get(slot, 0.0), stable_hash(seed, "met", slot)))
    if len(ranked) > 3:
        ranked = [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    return [candidates[slot] for slot in ranked]
