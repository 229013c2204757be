"""The scorers that `rewards` of kind `scorer` may name: what is measured, and its knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel

IdcgScope = Literal["gold", "slate"]


class SlateRankScorer(StrictModel):
    """Coverage of the slate and NDCG of its ranking, one reward each (F-GRPO, arXiv 2605.12995)."""

    kind: Literal["slate_rank"]
    coverage: Literal["recall", "f1"] = "recall"
    """Of the relevant items by the slate, whatever its order."""
    ndcg_at: Annotated[int, Field(ge=1)] = 5
    """Places of the ranking that count."""
    idcg_scope: IdcgScope = "gold"
    """The ideal ranking is of all relevant items, or of those in the slate: then what the slate misses is not held
    against the ranking. Without any in the slate the ranking is unscored."""
    rank_weight: Annotated[float, Field(ge=0)] = 1.0
    """The reward as a whole, for objectives without segments: slate + rank_weight x rank."""
    format_penalty: Annotated[float, Field(ge=0)] = 0.2
    """A malformed answer's reward is minus this, for all of it."""
    report_at: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (3, 5)
    """Recall and NDCG of the ranking that are logged, whatever is learned from."""


class ItemRankScorer(StrictModel):
    """A reward per place of the ranking (Rank-GRPO, arXiv 2510.20150); segments item1, item2, ..."""

    kind: Literal["item_rank"]
    gain: Literal["log", "exp_inf"] = "log"
    """`log`: the discounted gain from that place on; `exp_inf`: the item's own grade."""
    format_penalty: Annotated[float, Field(ge=0)] = 0.2
    report_at: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (3, 5)


ScorerConfig = Annotated[SlateRankScorer | ItemRankScorer, Field(discriminator="kind")]
