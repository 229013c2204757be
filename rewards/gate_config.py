"""`rewards.gates` in a recipe: cheap checks before any judge."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel


class LengthGate(StrictModel):
    """Fails answers outside [min_words, max_words]; optionally also those that do not end in one of `endings`."""

    kind: Literal["length"]
    min_words: Annotated[int, Field(ge=0)] = 1
    max_words: Annotated[int, Field(ge=1)] = 1_000_000
    endings: tuple[str, ...] = ()


class CopyRatioGate(StrictModel):
    """Fails answers of whose word n-grams at least `max_ratio` stand in the prompt (or in one of its fields)."""

    kind: Literal["copy_ratio"]
    ngram: Annotated[int, Field(ge=1, le=20)] = 5
    max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    field: str | None = None


GateConfig = Annotated[LengthGate | CopyRatioGate, Field(discriminator="kind")]
