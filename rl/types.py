"""What the learner reads: groups of token sequences with an advantage per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rollouts.types import BoolArray, FloatArray, IntArray

Float64Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainRollout:
    """One answer to learn from; arrays have one entry per answer token.

    segment_ids: -1 = no segment, 0.. = segments. advantages are 0 where nothing is learned.
    """

    token_ids: IntArray
    loss_mask: BoolArray
    advantages: FloatArray
    segment_ids: IntArray
    rollout_logprobs: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class TrainGroup:
    """The scored rollouts of one prompt; they share the prompt's tokens. `group_index` is unique in the batch.

    slots: the place that each rollout has in its group. wins_GG: P(i beats j) among the rollouts, where asked for.
    """

    group_index: int
    prompt_token_ids: IntArray
    rollouts: tuple[TrainRollout, ...]
    slots: tuple[int, ...] = ()
    wins_GG: Float64Array | None = None
