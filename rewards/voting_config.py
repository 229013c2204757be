"""What judges behind an endpoint share: the endpoint, and several replies to one question (self-consistency)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewards.endpoint_config import EndpointConfig
from rewards.strict import StrictModel
from rewards.types import VerdictKind


class VotingJudge(StrictModel):
    """A model behind an OpenAI-compatible endpoint that is asked once about a match, or several times at once."""

    endpoint: EndpointConfig
    votes: Annotated[int, Field(ge=1, le=64)] = 1
    """Replies to one question, with seeds of their own; those that fail are missing. They are asked for at once: their
    call holds one place of `calls.max_concurrency`, and each is a request of `calls.limits`."""
    merge_votes: Literal["mean", "majority"] = "mean"
    """mean: of the votes; for winners the share of votes, a probability. majority: the winner of most, hard."""

    @property
    def has_majority(self) -> bool:
        return self.votes > 1 and self.merge_votes == "majority"

    def merged_kind(self, one_vote: VerdictKind) -> VerdictKind:
        """What the verdict is, whose single votes are `one_vote`."""
        if self.has_majority:
            return "hard"
        return "probability" if one_vote == "hard" and self.votes > 1 else one_vote

    @model_validator(mode="after")
    def _votes_can_differ(self) -> Self:
        if self.votes > 1 and self.endpoint.temperature == 0.0:
            raise ValueError("votes: at endpoint.temperature 0 all votes are one; raise the temperature, or vote once")
        return self
