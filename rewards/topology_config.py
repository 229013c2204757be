"""`rewards.topology` in a recipe: who meets whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel


class RoundRobin(StrictModel):
    """Everyone meets everyone: N(N-1)/2 matches."""

    kind: Literal["round_robin"] = "round_robin"


class Anchor(StrictModel):
    """Everyone meets one of the group: N-1 matches, S more rounds with S switches: (S+1)(N-1) - S(S+1)/2 at most.

    `first` (slot 0; ArenaRL, arXiv 2601.06487) streams; `median` (by prior score) waits for everyone.
    `best_median_worst` meets three live anchors (Reasoning Arena, arXiv 2606.09380): 3N-6 matches, never switched,
    because its anchors are chosen again while the group grows.
    """

    kind: Literal["anchor"]
    anchors: Literal["first", "median", "best_median_worst"] = "first"
    min_informativeness: Annotated[float, Field(ge=0, le=1)] = 0.35
    """`first`, `median`: an anchor that tells a smaller share of the opponents' pairs apart is switched; 0 = never."""
    min_decided: Annotated[int, Field(ge=2, le=64)] = 4
    """`first`, `median`: verdicts against an anchor before it may be switched."""
    max_switches: Annotated[int, Field(ge=0, le=8)] = 1
    """`first`, `median`: how many further anchors there may be."""


class RandomReference(StrictModel):
    """Everyone meets one of the group, drawn by lot: N-1 matches (BRPO: Writing-Zero, arXiv 2506.00103)."""

    kind: Literal["random_reference"]


class SingleElimination(StrictModel):
    """A knockout bracket with real byes, N-1 matches (ArenaRL, arXiv 2601.06487).

    `seeding: anchor` first plays everyone against one (N-1 more); `prior` seeds by a cheap score, `random` by lot.
    """

    kind: Literal["single_elimination"]
    seeding: Literal["random", "anchor", "prior"] = "anchor"


class DoubleElimination(StrictModel):
    """Two brackets with real byes, out after two losses, no reset: 2N-2 matches (ArenaRL, arXiv 2601.06487).

    `seeding: anchor` first plays everyone against one (N-1 more); `prior` seeds by a cheap score, `random` by lot.
    """

    kind: Literal["double_elimination"]
    seeding: Literal["random", "anchor", "prior"] = "random"


class Swiss(StrictModel):
    """Neighbours in the standings meet, nobody twice: floor(N/2) matches a round (ArenaRL, arXiv 2601.06487)."""

    kind: Literal["swiss"]
    rounds: Annotated[int, Field(ge=1, le=64)] | None = None
    """Default ceil(log2 N); never more than max(floor(N/2), ceil(log2 N)), so that nobody need meet twice."""
    seeding: Literal["random", "prior"] = "random"
    """The order before the first round: by lot, or by a cheap score."""


class RepeatedKnockout(StrictModel):
    """K independent random brackets, two per match: K(N-1) matches (Tournament-GRPO, arXiv 2605.26958)."""

    kind: Literal["repeated_knockout"]
    repeats: Annotated[int, Field(ge=1, le=64)] = 4


class SlidingWindow(StrictModel):
    """K bubble passes from the end: at most K(N-1) - K(K-1)/2 matches, K <= N-1 (PRP sliding-K, arXiv 2306.17563)."""

    kind: Literal["sliding_window"]
    passes: Annotated[int, Field(ge=1, le=64)] = 10
    seeding: Literal["random", "prior"] = "random"
    """The first order, which few passes largely keep: by lot, or by a cheap score."""


class Heapsort(StrictModel):
    """A whole order by heapsort: at most 2N log2 N matches, one after the other (PRP, arXiv 2306.17563)."""

    kind: Literal["heapsort"]
    seeding: Literal["random", "prior"] = "random"
    """The first order: by lot, or by a cheap score."""


class Adaptive(StrictModel):
    """One budget for the batch, spent where it lowers the rewards' posterior variance most (ours)."""

    kind: Literal["adaptive"]
    calls_per_group: Annotated[int, Field(ge=1, le=1_000_000)] = 30
    """Judge calls a group on average; groups hand calls to each other. The opening's are included, and are made even
    where they are more (ceil(N/2) matches a group)."""
    rounds: Annotated[int, Field(ge=1, le=1000)] = 10
    """Serial rounds after the opening; more of them choose better and take longer."""


class KWise(StrictModel):
    """Slates of up to K, ranked by one judge call each: R ceil(N/K) calls, one if N <= K (K-Sort, arXiv 2408.14468).

    Needs a judge that ranks; verdicts are `hard`, whatever the judge says of pairs.
    """

    kind: Literal["k_wise"]
    k: Annotated[int, Field(ge=2, le=16)] = 4
    """Most answers in one call."""
    rounds: Annotated[int, Field(ge=1, le=64)] | None = None
    """Default 1 + ceil(log2 N); one round where all fit one slate."""


PairTopologyConfig = (
    RoundRobin
    | Anchor
    | RandomReference
    | SingleElimination
    | DoubleElimination
    | Swiss
    | RepeatedKnockout
    | SlidingWindow
    | Heapsort
    | Adaptive
)
"""Kinds whose calls compare two."""

TopologyConfig = Annotated[PairTopologyConfig | KWise, Field(discriminator="kind")]


def prior_key(config: TopologyConfig) -> str | None:
    """The key by which this topology asks for prior scores, or None. Without scores it would go by lot unasked."""
    if getattr(config, "seeding", None) == "prior":
        return "seeding"
    return "anchors" if isinstance(config, Anchor) and config.anchors == "median" else None
