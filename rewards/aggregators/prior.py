"""What empirical Bayes remembers between batches: plain numbers that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.aggregators.score_shrinkage import MULTIPLES
from rewards.aggregators.votes import FloatArray
from rewards.errors import UserError
from rewards.types import Prior

SCALE_COUNT = 0.5
"""Dirichlet count of every scale: half a group each, so that no scale dies."""
SEAT_PRECISION = 4.0
"""The first-seat bias starts as Normal(0, 0.5^2) logits."""


@dataclass(frozen=True, slots=True)
class BatchPrior:
    """Evidence of earlier batches, on top of the fixed default prior; all zeros at first.

    scale_groups: groups of each scale seen so far. seat_information and seat_moment: precision of the first-seat bias,
    and precision times bias, in logits. score_squares and score_rollouts: sum of squared centred strengths of `score`
    verdicts and how many. multiple_groups: groups of each multiple of the judge's error (`score_error`).
    A new batch is added with weight 1, then everything is multiplied by `prior_decay`.
    """

    scales: tuple[float, ...]
    scale_groups: tuple[float, ...]
    seat_information: float = 0.0
    seat_moment: float = 0.0
    score_squares: float = 0.0
    score_rollouts: float = 0.0
    multiple_groups: tuple[float, ...] = (0.0,) * len(MULTIPLES)

    @staticmethod
    def read(prior: Prior | None, scales: Sequence[float]) -> BatchPrior:
        if not prior:
            return BatchPrior(tuple(scales), (0.0,) * len(scales))
        if list(prior["scales"]) != list(scales):
            raise UserError(
                f"rewards.aggregator.scales: the carried prior was learned on {list(prior['scales'])}, not on "
                f"{list(scales)}; keep the scales or start without the prior"
            )
        return BatchPrior(
            tuple(scales),
            tuple(float(count) for count in prior["scale_groups"]),
            float(prior["seat_information"]),
            float(prior["seat_moment"]),
            float(prior["score_squares"]),
            float(prior["score_rollouts"]),
            tuple(float(count) for count in prior["multiple_groups"]),
        )

    def to_json(self) -> dict[str, float | list[float]]:
        return {
            "scales": list(self.scales),
            "scale_groups": list(self.scale_groups),
            "seat_information": self.seat_information,
            "seat_moment": self.seat_moment,
            "score_squares": self.score_squares,
            "score_rollouts": self.score_rollouts,
            "multiple_groups": list(self.multiple_groups),
        }

    @property
    def scale_counts(self) -> FloatArray:
        return SCALE_COUNT + np.array(self.scale_groups)

    @property
    def multiple_counts(self) -> FloatArray:
        return SCALE_COUNT + np.array(self.multiple_groups)

    @property
    def seat_precision(self) -> float:
        return SEAT_PRECISION + self.seat_information

    @property
    def seat_bias(self) -> float:
        return self.seat_moment / self.seat_precision
