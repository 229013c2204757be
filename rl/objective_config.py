"""The `rl.objective` section of a recipe: a preset and the knobs that win over it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import StrictModel

ObjectiveKind = Literal[
    "grpo",
    "dr_grpo",
    "dapo",
    "gspo",
    "gspo_token",
    "cispo",
    "gmpo",
    "sapo",
    "rloo",
    "reinforce_pp",
    "reinforce_pp_baseline",
    "f_grpo",
    "rank_grpo",
    "focal",
    "disco",
]
AdvantageKind = Literal["constant", "mean", "mean_std", "batch_std", "rloo", "rank_quantile", "whiten"]
Surrogate = Literal["clip", "cispo", "gmpo", "sapo", "reinforce"]
RatioLevel = Literal["token", "segment", "sequence"]
RatioForm = Literal["token", "mean"]
Aggregation = Literal["token", "sequence", "segment", "constant"]
KlEstimator = Literal["k1", "k2", "k3"]
KlPlace = Literal["loss", "reward"]
OffPolicyWeight = Literal["none", "token", "sequence"]
DiscoScore = Literal["log_l", "l_ratio"]

PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


class OffPolicyConfig(StrictModel):
    """Corrects for the engine's probabilities not being the learner's: w = pi_old / pi_rollout of each sampled token.

    The weight multiplies the policy loss, never the KL term or the entropy bonus (`rl/off_policy.py`).
    """

    weight: OffPolicyWeight = "none"
    """token: each token's own w; sequence: the product over the rollout's loss tokens."""
    outside: Literal["truncate", "mask"] = "truncate"
    """Beyond `high`: cut to it, or 0 there and below `low` (at token level: IcePop)."""
    low: PositiveFloat | None = None
    """Only with `outside: mask`; default 0.5."""
    high: PositiveFloat | None = None
    """Default 2 for truncate, 5 for mask."""
    geometric_band: tuple[PositiveFloat, PositiveFloat] | None = None
    """Rollouts whose geometric mean of w lies outside get no policy gradient; [0.99, 1.01] is in use elsewhere."""


class CriteriaConfig(StrictModel):
    """Learn from the criteria of a rubric, or of your own judge or scorer, instead of the one reward (GDPO).

    Each criterion's advantages are normalised inside the group by themselves (`advantage`; GDPO: mean_std) and then
    added up. Rewards decide who is scored and what is reliable; aggregator and rubric weights have no other part.
    """

    weights: Annotated[dict[Annotated[str, Field(min_length=1)], PositiveFloat], Field(min_length=1)]
    """By criterion; those that are not named are not learned from."""
    whiten: bool = True
    """Bring the sum to std 1 over the batch; false: leave it as it is, the larger the more the weights come to."""


class DiscoConfig(StrictModel):
    """What only `kind: disco` reads."""

    score: DiscoScore = "log_l"
    """Of a rollout: mean log-probability of its tokens, or mean ratio to the old policy's probabilities."""
    tau: PositiveFloat | None = None
    """Temperature over the beaten rollouts; large = plain pair differences. Default: 10 for log_l, 1 for l_ratio."""
    kl_limit: NonNegativeFloat = 1e-4
    """Nats per token that the policy may move from the old one before it is pulled back."""
    kl_penalty: NonNegativeFloat = 1e3
    """Weight of the squared excess over the limit."""


class ObjectiveConfig(StrictModel):
    """The policy loss. `kind` is a preset over the knobs below; a knob that is set wins over the preset.

    Each preset is a file in `rl/objectives/`, with its formula and its source.
    """

    kind: ObjectiveKind = "dapo"
    advantage: AdvantageKind | None = None
    """Default: the preset's, or what the rewards call for. A conflict is refused."""
    criteria: CriteriaConfig | None = None
    """Several advantages, one per criterion, mixed into one (`rl/criteria.py`)."""
    surrogate: Surrogate | None = None
    """What is made of ratio and advantage (`rl/surrogates.py`)."""
    ratio_level: RatioLevel | None = None
    """Over which of a rollout's tokens the log-ratio is averaged: none, those of its segment, all."""
    ratio_form: RatioForm | None = None
    """Of an averaged ratio: its gradient goes through each token's own logprob, or through the mean."""
    clip_low: Annotated[float, Field(gt=0, le=1)] | None = None
    """1 = no lower bound. With surrogate gmpo, clip_low and clip_high bound the log-ratio."""
    clip_high: PositiveFloat | None = None
    """Defaults follow the preset, or the ratio level where that is set: token 0.2/0.2, others 3e-4/4e-4."""
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    """Bound of the ratio for negative advantages (arXiv 1912.09729); 3 is usual."""
    sapo_tau: tuple[PositiveFloat, PositiveFloat] | None = None
    """Gate temperatures of surrogate sapo for positive and negative advantages."""
    focal_gamma: NonNegativeFloat | None = None
    """Scales a group's advantages by (1 - its mean reward)^gamma; rewards in [0, 1] only."""
    aggregation: Aggregation | None = None
    constant_tokens: Annotated[int, Field(ge=1)] | None = None
    """Divisor per answer of `aggregation: constant`; default: rollouts.max_tokens."""
    segment_weights: tuple[NonNegativeFloat, ...] = ()
    """Weights of the losses of segments 0, 1, ..; missing ones 1. F-GRPO: [1, lambda]."""
    slate_sees_rank: NonNegativeFloat = 0.0
    """F-GRPO: share of the later segments' weighted advantages that earlier segments get; 1 = reward-to-go."""
    kl_coef: NonNegativeFloat = 0.0
    """Weight of the divergence from the frozen starting model; 0 keeps no reference."""
    kl_estimator: KlEstimator | None = None
    kl_in: KlPlace | None = None
    """loss: per token, differentiated. reward: each rollout's sum is taken off its reward before normalisation."""
    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the entropy bonus."""
    old_logprobs: Literal["recompute", "bypass"] = "recompute"
    """The ratio's denominator: the learner's own (recomputed where a step has several updates), or the engine's."""
    off_policy: OffPolicyConfig = OffPolicyConfig()
    disco: DiscoConfig | None = None
