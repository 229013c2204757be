"""`rewards.topology` in a recipe: who meets whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel


class RoundRobin(StrictModel):
    """Everyone meets everyone: N(N-1)/2 matches."""

    kind: Literal["round_robin"] = "round_robin"


class SingleElimination(StrictModel):
    """A knockout bracket with real byes, N-1 matches; `seeding: anchor` first plays everyone against one (N-1 more)."""

    kind: Literal["single_elimination"]
    seeding: Literal["random", "anchor"] = "anchor"


TopologyConfig = Annotated[RoundRobin | SingleElimination, Field(discriminator="kind")]
