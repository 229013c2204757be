"""A resolved objective: every knob of `policy_loss` has a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rl.objective_config import (
    AdvantageKind,
    Aggregation,
    DiscoScore,
    KlEstimator,
    KlPlace,
    OffPolicyWeight,
    RatioForm,
    RatioLevel,
    Surrogate,
)


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """Weights pi_old / pi_rollout on the policy loss: see `rl/off_policy.py`."""

    weight: OffPolicyWeight = "none"
    mask_outside: bool = False
    low: float = 0.0
    high: float = 2.0
    geometric_band: tuple[float, float] | None = None

    @property
    def is_active(self) -> bool:
        return self.weight != "none" or self.geometric_band is not None


@dataclass(frozen=True, slots=True)
class Disco:
    """The pairwise objective whose group weights come from a pass of its own: see `rl/disco.py`."""

    score: DiscoScore
    tau: float
    kl_limit: float
    kl_penalty: float


@dataclass(frozen=True, slots=True)
class Criteria:
    """Whose advantages are mixed by which weights, and whether the mix is brought to std 1: see `rl/criteria.py`."""

    weights: Mapping[str, float]
    whiten: bool


@dataclass(frozen=True, slots=True)
class Objective:
    """advantage: kind of `compute_advantages`. ratio_level: over which tokens the log-ratio is averaged.

    aggregation: how tokens become one number, per segment bucket (the tokens of a segment, or those of none):
    `token` = mean over the bucket's loss tokens; `sequence` = mean over each rollout's tokens of the bucket, then over
    rollouts that have some; `segment` = the same means, then over all (rollout, segment) pairs at once; `constant` =
    sum / (constant_tokens x rollouts). constant_tokens is None elsewhere. Bucket sums are added up, segment s with
    weight segment_weights[s] (1 past its end; tokens of no segment have 1).

    kl_coef: weight of the divergence from the reference, under the same aggregation and weights, or off the reward.
    uses_segments: advantages are per segment. slate_sees_rank: share of later segments' weighted advantages that is
    added to earlier ones. focal_gamma: exponent of `rl/focal.py`. bypass: the engine's logprobs are the old ones.
    """

    kind: str
    advantage: AdvantageKind
    ratio_level: RatioLevel
    clip_low: float
    clip_high: float
    aggregation: Aggregation
    constant_tokens: int | None
    kl_coef: float
    surrogate: Surrogate = "clip"
    ratio_form: RatioForm = "token"
    dual_clip: float | None = None
    sapo_tau: tuple[float, float] = (1.0, 1.05)
    focal_gamma: float = 0.0
    kl_estimator: KlEstimator = "k3"
    kl_in: KlPlace = "loss"
    entropy_coef: float = 0.0
    segment_weights: tuple[float, ...] = ()
    uses_segments: bool = False
    slate_sees_rank: float = 0.0
    bypass: bool = False
    off_policy: OffPolicy = OffPolicy()
    disco: Disco | None = None
    criteria: Criteria | None = None

    def segment_weight(self, segment: int) -> float:
        """Weight of a segment's loss; segment -1 = no segment."""
        return self.segment_weights[segment] if 0 <= segment < len(self.segment_weights) else 1.0

    @property
    def loss_kl_coef(self) -> float:
        """Weight of the divergence inside the loss; 0 where it is taken off the rewards."""
        return self.kl_coef if self.kl_in == "loss" else 0.0

    @property
    def reward_kl_coef(self) -> float:
        """Weight of the divergence that is taken off the rewards; 0 where it is in the loss."""
        return self.kl_coef if self.kl_in == "reward" else 0.0

    @property
    def all_rollouts_teach(self) -> bool:
        """True if rollouts without an advantage have a part in the gradient too."""
        return self.loss_kl_coef > 0 or self.entropy_coef > 0
