"""The `sft` section of a recipe: what the policy learns from written answers before it is ranked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel
from rl.config import LearnerConfig, OptimizerConfig

DEFAULT_HELDOUT_SHARE = 0.05


class SFTOptimizerConfig(OptimizerConfig):
    """AdamW on float32 master weights."""

    lr: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class SFTCheckpointConfig(StrictModel):
    every: Annotated[int, Field(ge=1)] | None = None
    """Steps between checkpoints; the last step is always saved."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints that stay."""
    keep_best: Annotated[int, Field(ge=0)] = 1
    """Beside the newest, those with the lowest held-out losses."""


class SFTConfig(StrictModel):
    """Supervised learning before RL: `podium sft RECIPE`. `podium train` does not read this section."""

    data: str
    """JSONL. A row is {"messages": [...]}, or {"prompt": ..., "completion": ...}, each a text or a list of messages."""
    heldout_data: str | None = None
    """JSONL of rows that are only evaluated; default: a share of `data`."""
    heldout_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Part of `data` set aside, drawn by the run's seed; default 0.05, or none beside `heldout_data`."""
    apply_chat_template: bool = True
    """A prompt text is a user message, a completion text the assistant's. false: both are literal text."""
    turns: Literal["all", "last"] = "all"
    """Which of the assistant's turns are learned; everything else is context."""
    max_tokens: Annotated[int, Field(ge=2)] = 2048
    """Longest row, prompt and answers together."""
    too_long: Literal["refuse", "skip"] = "refuse"
    """Longer rows stop the run before it starts, or are left out and counted."""
    rows_per_step: Annotated[int, Field(ge=1)] = 32
    """Rows of one optimizer update; the loss is the mean over all answer tokens in them."""
    num_epochs: Annotated[int, Field(ge=1)] | None = None
    """Times that every row is learned from, each time in a new order; default 1."""
    num_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer updates, instead of `num_epochs`."""
    evaluate_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between held-out losses; the start and the last step are always evaluated."""
    optimizer: SFTOptimizerConfig = SFTOptimizerConfig()
    learner: LearnerConfig = LearnerConfig()
    checkpoint: SFTCheckpointConfig = SFTCheckpointConfig()

    @property
    def share(self) -> float:
        """Part of `data` that is set aside."""
        if self.heldout_share is not None:
            return self.heldout_share
        return 0.0 if self.heldout_data is not None else DEFAULT_HELDOUT_SHARE
