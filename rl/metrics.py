"""Metrics that are seen in pieces (micro-batches, ranks) and merged into one row of `metrics.jsonl` a step.

Names are `<area>/<what>`, as listed in `rl/events.py`; shares in [0, 1] end in `_fraction` or `_rate`, largest values
in `_max`, counts begin with `num_`. `policy_loss` reports, over loss tokens and in nats:

    rl/loss  rl/policy_loss            Sum: with and without the KL term, divided by the whole batch's normalisers
    rl/num_tokens                      Sum
    rl/ratio  rl/ratio_max             Mean, Max: current policy over the one at the start of the batch
    rl/clip_fraction                   Mean: share of tokens whose policy gradient the clip removed (cispo: cut)
    rl/segment_0_ratio  .._clip_fraction, and of segment 1: the same of one segment's tokens, for segment objectives
    rl/kl  rl/entropy                  Mean: the estimated divergence from the reference; where they are asked for
    rl/off_policy_weight  .._masked_fraction   Mean: weights as applied, and the share that is 0; where there are some
    sync/logprob_gap  .._gap_max       Mean, Max: |learner - engine| logprob of the sampled tokens
    sync/mismatch_ratio  .._ratio_max  Mean, Max: learner's over engine's probability, before any cut
    sync/mismatch_k3                   Mean: k3 estimate of KL(engine || learner)
    sync/mismatch_ess_fraction         EffectiveShare of those ratios
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np


@dataclass(frozen=True, slots=True)
class Sum:
    """Parts add up: counts, and losses that are already divided by the whole batch's normaliser."""

    value: float

    def merged(self, other: Sum) -> Sum:
        return Sum(self.value + other.value)

    @property
    def result(self) -> float | None:
        return self.value


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over `count` things, kept as total and count so that uneven parts merge exactly."""

    total: float
    count: float

    def merged(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def result(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class Max:
    """The largest of the parts; -inf where a part had nothing. A NaN in any part stays."""

    value: float

    def merged(self, other: Max) -> Max:
        return Max(float(np.maximum(self.value, other.value)))  # Python's max drops a NaN on one side

    @property
    def result(self) -> float | None:
        return None if self.value == -np.inf else self.value


@dataclass(frozen=True, slots=True)
class EffectiveShare:
    """Effective number of equally weighted things over their number, (sum w)^2 / (n sum w^2), in (0, 1]."""

    total: float
    squares: float
    count: float

    def merged(self, other: EffectiveShare) -> EffectiveShare:
        return EffectiveShare(self.total + other.total, self.squares + other.squares, self.count + other.count)

    @property
    def result(self) -> float | None:
        return self.total**2 / (self.squares * self.count) if self.count else None


Metric: TypeAlias = Sum | Mean | Max | EffectiveShare


def merge(parts: Iterable[Mapping[str, Metric]]) -> dict[str, Metric]:
    """One dict of the parts' metrics, in any order of the parts. A key may be missing in some of them.

    Raises:
        TypeError: a key that is of one kind here and of another there.
    """
    merged: dict[str, Metric] = {}
    for part in parts:
        for key, metric in part.items():
            merged[key] = _merge_two(key, merged[key], metric) if key in merged else metric
    return merged


def _merge_two(key: str, a: Metric, b: Metric) -> Metric:
    if isinstance(a, Sum) and isinstance(b, Sum):
        return a.merged(b)
    if isinstance(a, Mean) and isinstance(b, Mean):
        return a.merged(b)
    if isinstance(a, Max) and isinstance(b, Max):
        return a.merged(b)
    if isinstance(a, EffectiveShare) and isinstance(b, EffectiveShare):
        return a.merged(b)
    raise TypeError(f"metric {key!r} is {type(a).__name__} in one part and {type(b).__name__} in another")


def summarize(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Plain numbers for a row; a mean over nothing and a largest of nothing are left out."""
    return {key: metric.result for key, metric in metrics.items() if metric.result is not None}
