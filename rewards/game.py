"""What an arena plays: matches or slates, as topology and judge fit each other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.asking import Asker
from rewards.batch_rounds import play_rounds
from rewards.config import TournamentRewards
from rewards.errors import UserError
from rewards.introduce import introduce
from rewards.topologies import build_topology
from rewards.tournament import Tournament
from rewards.types import BatchTopology, CallHandler, Judge, ListJudge, SlateTopology, Topology, VerdictKind


@dataclass(frozen=True, slots=True)
class Game:
    """How a group is played while it arrives, what follows once a batch is there, and the kind of its match logs.

    play takes the most matches or slates to start (None: no bound); finish takes what tells the calls that are left.
    """

    kind: VerdictKind
    topology: Topology | SlateTopology
    play: Callable[[Tournament, int | None], Coroutine[Any, Any, None]]
    finish: Callable[[Sequence[Tournament], Callable[[], int | None]], Coroutine[Any, Any, None]]


def build_game(config: TournamentRewards, asker: Asker, on_call: CallHandler | None) -> Game:
    """How the recipe's topology is played with the judge that `asker` asks.

    Raises:
        UserError: the topology names slates and the judge cannot rank, or the other way round.
    """
    topology, judge = build_topology(config.topology), asker.judge

    async def nothing(tournaments: Sequence[Tournament], calls_left: Callable[[], int | None]) -> None:
        pass

    if isinstance(topology, SlateTopology):
        if not isinstance(judge, ListJudge):
            raise UserError(
                f"rewards.topology {config.topology.kind} ranks several answers in one call, and judge {judge.name} "
                "only compares two; choose a judge that ranks, or another topology"
            )

        def play_slates(tournament: Tournament, max_items: int | None) -> Coroutine[Any, Any, None]:
            return tournament.play_slates(topology.playable, asker, on_call, max_items=max_items)

        return Game("hard", topology, play_slates, nothing)
    if not isinstance(judge, Judge):
        raise UserError(
            f"rewards.topology {config.topology.kind} plays pairs, and judge {judge.name} only ranks; choose k_wise"
        )

    async def play(tournament: Tournament, max_items: int | None) -> None:
        await introduce(judge, tournament)
        await tournament.play(topology.playable, asker, on_call, max_items=max_items)

    async def rounds(tournaments: Sequence[Tournament], calls_left: Callable[[], int | None]) -> None:
        if isinstance(topology, BatchTopology):
            await play_rounds(topology, tournaments, asker, on_call, calls_left=calls_left)

    return Game(judge.kind, topology, play, rounds)
