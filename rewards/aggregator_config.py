"""`rewards.aggregator` in a recipe: match logs to rewards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel

Scale = Annotated[float, Field(gt=0, le=100)]


class _Aggregator(StrictModel):
    judge_weights: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field(default_factory=dict)
    """What a judge's verdict counts, by the judge's name, in plain verdicts; 1 for judges that are not named."""


class WinRate(_Aggregator):
    """Mean outcome over the matches that have a verdict (Pref-GRPO, arXiv 2508.20751)."""

    kind: Literal["win_rate"]


class RankQuantile(_Aggregator):
    """Rank of the win rate mapped to [0, 1], ties share the mean rank (ArenaRL, arXiv 2601.06487)."""

    kind: Literal["rank_quantile"]


class Borda(_Aggregator):
    """Mean share of wins over the opponents met: every opponent counts once (Borda 1781)."""

    kind: Literal["borda"]


class BradleyTerry(_Aggregator):
    """Posterior win probabilities under a prior of given scale (Bradley and Terry 1952, with an L2 penalty)."""

    kind: Literal["bradley_terry"]
    prior_sd: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Standard deviation of the strengths, in logits; large values come near to maximum likelihood."""


class Davidson(_Aggregator):
    """Bradley-Terry with ties as an outcome of their own (Davidson 1970)."""

    kind: Literal["davidson"]
    prior_sd: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Standard deviation of the strengths, in logits."""


class PlackettLuce(_Aggregator):
    """Whole rankings as choices from what is left (Plackett 1975), under a prior of given scale."""

    kind: Literal["plackett_luce"]
    prior_sd: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Standard deviation of the strengths, in logits."""


class Elo(_Aggregator):
    """Ratings that move verdict by verdict (Elo 1978)."""

    kind: Literal["elo"]
    k: Annotated[float, Field(gt=0, le=1000)] = 32.0
    """Points that one verdict moves at most."""
    shuffles: Annotated[int, Field(ge=0, le=10_000)] = 16
    """Ratings are the mean over so many seeded orders of the verdicts; 0: once, in the order of the log."""


class TrueSkill(StrictModel):
    """Gaussian skills, updated by pairs or by whole rankings (Weng and Lin 2011; K-Sort Arena, arXiv 2408.14468)."""

    kind: Literal["trueskill"]
    shuffles: Annotated[int, Field(ge=0, le=10_000)] = 16
    """Skills are the mean over so many seeded orders of the verdicts; 0: once, in the order of the log."""


class SoftCondorcet(_Aggregator):
    """Ratings that contradict few verdicts, upsets bounded (soft Condorcet optimisation, arXiv 2411.00119)."""

    kind: Literal["soft_condorcet"]
    temperature: Annotated[float, Field(gt=0, le=100)] = 0.5
    """Rating difference that counts as clear."""
    prior_sd: Annotated[float, Field(gt=0, le=100)] = 3.0
    """Of the penalty that keeps ratings finite."""


class Kemeny(_Aggregator):
    """The order that contradicts the fewest verdicts (Kemeny 1959); exact for up to 12."""

    kind: Literal["kemeny"]


class Tour(_Aggregator):
    """The best path through everybody, neighbour beating neighbour (TSPRank, arXiv 2411.12064); exact for up to 12."""

    kind: Literal["tour"]


class EmpiricalBayes(_Aggregator):
    """Posterior win probabilities under a prior whose scale is learned from the batch (ours)."""

    kind: Literal["empirical_bayes"] = "empirical_bayes"
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (0.05, 0.3, 0.7, 1.2, 2.0, 3.0)
    """Grid of prior standard deviations of a group's strengths."""
    prior_decay: Annotated[float, Field(ge=0, le=1)] = 0.9
    """How much of the mixture weights' evidence is carried from one step to the next."""
    score_error: Annotated[float, Field(gt=0)] | None = None
    """`score` verdicts: the judge's own error per rollout, in its units, from outside (`diagnostics.score_error`).

    Groups that differ no more than this are shrunk to nothing; without it no group is shrunk.
    """
    score_rewards: Literal["strength", "win_share"] = "strength"
    """`score` verdicts: centred strengths on the batch's scale, or what they are worth as shares of wins, in [0, 1]."""


AggregatorConfig = Annotated[
    WinRate
    | RankQuantile
    | Borda
    | BradleyTerry
    | Davidson
    | PlackettLuce
    | Elo
    | TrueSkill
    | SoftCondorcet
    | Kemeny
    | Tour
    | EmpiricalBayes,
    Field(discriminator="kind"),
]
