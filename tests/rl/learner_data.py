"""Small batches and models that the learner's tests share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rl.objectives import Objective
from rl.types import TrainGroup, TrainRollout


def make_rollout(rng: np.random.Generator, length: int, vocab_size: int, *, masked: bool = False) -> TrainRollout:
    loss_mask = np.ones(length, dtype=bool)
    if masked and length > 2:
        loss_mask[1 : length // 2 + 1] = False
    advantage = np.float32(rng.normal())
    return TrainRollout(
        token_ids=rng.integers(0, vocab_size, length).astype(np.int32),
        loss_mask=loss_mask,
        advantages=np.where(loss_mask, advantage, np.float32(0)).astype(np.float32),
        segment_ids=np.full(length, -1, dtype=np.int32),
        rollout_logprobs=rng.normal(-3, 0.1, length).astype(np.float32),
    )


def make_groups(
    shapes: Sequence[tuple[int, Sequence[int]]], *, vocab_size: int, seed: int = 0, masked: bool = False
) -> list[TrainGroup]:
    """One group per (prompt length, answer lengths)."""
    rng = np.random.default_rng(seed)
    return [
        TrainGroup(
            index,
            rng.integers(0, vocab_size, prompt_length).astype(np.int32),
            tuple(make_rollout(rng, length, vocab_size, masked=masked) for length in lengths),
        )
        for index, (prompt_length, lengths) in enumerate(shapes)
    ]


def make_objective(*, kl_coef: float = 0.0) -> Objective:
    return Objective(
        kind="dapo",
        advantage="constant",
        ratio_level="token",
        clip_low=0.2,
        clip_high=0.28,
        aggregation="token",
        constant_tokens=None,
        kl_coef=kl_coef,
    )
