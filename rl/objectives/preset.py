"""What a preset says: values for the knobs that a recipe leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from rl.objective_config import (
    AdvantageKind,
    Aggregation,
    KlEstimator,
    KlPlace,
    RatioForm,
    RatioLevel,
    Surrogate,
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A published setting. `metric_advantage` is its advantage where the rewards do not call for one themselves."""

    ratio_level: RatioLevel
    clip_low: float
    clip_high: float
    aggregation: Aggregation
    metric_advantage: AdvantageKind
    refuses: tuple[AdvantageKind, ...] = ()
    """Kinds of advantage that contradict what the preset is."""
    owns_advantage: bool = False
    """The advantage is what the preset is about: the rewards do not change its default."""
    surrogate: Surrogate = "clip"
    ratio_form: RatioForm = "token"
    focal_gamma: float = 0.0
    kl_estimator: KlEstimator = "k3"
    kl_in: KlPlace = "loss"
    uses_segments: bool = False
