"""`rewards.aggregator` in a recipe: match logs to rewards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel


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


class EmpiricalBayes(_Aggregator):
    """Posterior win probabilities under a prior whose scale is learned from the batch (ours)."""

    kind: Literal["empirical_bayes"] = "empirical_bayes"
    scales: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (0.05, 0.3, 0.7, 1.2, 2.0, 3.0)
    """Grid of prior standard deviations of a group's strengths."""
    prior_decay: Annotated[float, Field(ge=0, le=1)] = 0.9
    """How much of the mixture weights' evidence is carried from one step to the next."""


AggregatorConfig = Annotated[
    WinRate | RankQuantile | Borda | BradleyTerry | EmpiricalBayes, Field(discriminator="kind")
]
