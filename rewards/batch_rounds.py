"""The rounds of a batch topology: all groups wait for each other, then the batch plans and plays one more round.

tournaments, all complete and idle --> next_round(states, logs) --> one list of pairings per group
            ^                                                                |
            +------------- played concurrently, results are back <-----------+      until no group has a pairing
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from rewards.asking import Asker
from rewards.together import all_or_none
from rewards.topologies.ordering import unplayed
from rewards.tournament import Tournament
from rewards.types import BatchTopology, CallHandler, Pairing, TournamentState


async def play_rounds(
    topology: BatchTopology,
    tournaments: Sequence[Tournament],
    asker: Asker,
    on_call: CallHandler | None,
    *,
    calls_left: Callable[[], int | None],
) -> None:
    """Plays until the topology names no pairing. A call's exception, JudgeFailure apart, cancels the round.

    Args:
        calls_left: what the step may still spend; None: no bound but the topology's own.
    """
    while True:
        plan = await asyncio.to_thread(
            topology.next_round,
            [tournament.state for tournament in tournaments],
            [tournament.log(asker.kind, asker.symmetric, asker.merge) for tournament in tournaments],
            calls_per_match=asker.calls_per_item,
            calls_left=calls_left(),
        )
        if not any(plan):
            return
        await all_or_none(
            tournament.play(partial(_named, pairings), asker, on_call)
            for tournament, pairings in zip(tournaments, plan, strict=True)
            if pairings
        )


def _named(pairings: Sequence[Pairing], state: TournamentState) -> list[Pairing]:
    return unplayed(pairings, state.results)
