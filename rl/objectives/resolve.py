"""From a recipe's `rl.objective` to an Objective: what is set, else the preset's value, else a default."""

from __future__ import annotations

from rl.objective_config import (
    AdvantageKind,
    DiscoConfig,
    DiscoScore,
    KlEstimator,
    KlPlace,
    ObjectiveConfig,
    OffPolicyConfig,
    RatioLevel,
    Surrogate,
)
from rl.objectives.objective import Criteria, Disco, Objective, OffPolicy
from rl.objectives.preset import Preset
from rl.objectives.presets import PRESETS
from rl.objectives.refusals import UNDOES_SHRINKAGE, RewardKind, check_config, check_objective

LEVEL_CLIPS: dict[RatioLevel, tuple[float, float]] = {
    "token": (0.2, 0.2),
    "segment": (3e-4, 4e-4),
    "sequence": (3e-4, 4e-4),
}
"""clip_low, clip_high where `ratio_level` is set: a mean over many tokens stays far closer to 1 than one's ratio."""

SURROGATE_CLIPS: dict[Surrogate, tuple[float, float]] = {
    "cispo": (1.0, 4.0),
    "gmpo": (0.4, 0.4),
    "sapo": (0.0, 0.0),
    "reinforce": (0.0, 0.0),
}
"""Where `surrogate` is set: those of the preset that it comes from; sapo and reinforce read none."""

UNCLIPPED = (1.0, 1e9)
"""Ratios end at e^20, long before that."""

KL_ESTIMATORS: dict[KlPlace, KlEstimator] = {"loss": "k3", "reward": "k1"}
"""Where `kl_in` is not the preset's."""

SAPO_TAU = (1.0, 1.05)
DISCO_TAU: dict[DiscoScore, float] = {"log_l": 10.0, "l_ratio": 1.0}
MASK_BAND = (0.5, 5.0)
TRUNCATE_AT = 2.0


def resolve_objective(
    config: ObjectiveConfig,
    *,
    reward_kind: RewardKind,
    shrunk: bool,
    max_tokens: int,
    has_segments: bool | None = None,
    updates_per_step: int = 1,
    staleness: int = 0,
) -> Objective:
    """Fills every knob.

    The default advantage follows the rewards first and the preset second:

    | rewards                       | presets with mean_std | others of GRPO's kind | rloo, reinforce_pp*  |
    |-------------------------------|-----------------------|-----------------------|----------------------|
    | win_probability               | constant              | constant              | their own            |
    | score (centred, batch-scaled) | mean                  | mean                  | their own            |
    | metric                        | mean_std              | mean                  | their own            |
    | metric, shrunk                | mean                  | mean                  | their own            |

    With `criteria` what counts is the criteria's numbers: win rates, or a scorer's own metrics; neither is shrunk.

    Args:
        reward_kind: what a reward's number means.
        shrunk: True if the aggregator has a posterior, so that a group it cannot tell apart is already near level.
        max_tokens: `rollouts.max_tokens`, the default of `constant_tokens`.
        has_segments: whether the task has segments with rewards of their own; None = not known before it runs.
        updates_per_step: optimizer updates on one batch of rollouts.
        staleness: policy versions between sampling and learning.

    Raises:
        UserError: a combination that makes no sense, with its reason (`refusals.py`).
    """
    preset = PRESETS[config.kind]
    check_config(config, preset)
    if config.criteria is not None:  # raw win rates by criterion, or a scorer's own numbers
        reward_kind, shrunk = "metric" if reward_kind == "metric" else "win_probability", False
    disco = _disco(config)
    surrogate = config.surrogate or preset.surrogate
    level = config.ratio_level or (_coarse(preset) if surrogate == "gmpo" else preset.ratio_level)
    clip_low, clip_high = _clip(config, preset, surrogate, level)
    if disco and disco.score == "l_ratio":
        surrogate, (clip_low, clip_high) = "clip", UNCLIPPED
    aggregation = config.aggregation or preset.aggregation
    kl_in = config.kl_in or preset.kl_in
    objective = Objective(
        kind=config.kind,
        advantage=config.advantage or _default_advantage(preset, reward_kind, shrunk),
        ratio_level=level,
        clip_low=clip_low,
        clip_high=clip_high,
        aggregation=aggregation,
        constant_tokens=(config.constant_tokens or max_tokens) if aggregation == "constant" else None,
        kl_coef=config.kl_coef,
        surrogate=surrogate,
        ratio_form="mean" if surrogate == "gmpo" else config.ratio_form or preset.ratio_form,
        dual_clip=config.dual_clip,
        sapo_tau=config.sapo_tau or SAPO_TAU,
        focal_gamma=preset.focal_gamma if config.focal_gamma is None else config.focal_gamma,
        kl_estimator=config.kl_estimator or (preset.kl_estimator if kl_in == preset.kl_in else KL_ESTIMATORS[kl_in]),
        kl_in=kl_in,
        entropy_coef=config.entropy_coef,
        segment_weights=config.segment_weights,
        uses_segments=preset.uses_segments,
        slate_sees_rank=config.slate_sees_rank,
        bypass=config.old_logprobs == "bypass",
        off_policy=_off_policy(config.off_policy),
        disco=disco,
        criteria=Criteria(dict(config.criteria.weights), config.criteria.whiten) if config.criteria else None,
    )
    check_objective(
        objective,
        reward_kind=reward_kind,
        shrunk=shrunk,
        has_segments=has_segments,
        updates_per_step=updates_per_step,
        staleness=staleness,
        preset=preset,
    )
    return objective


def _default_advantage(preset: Preset, reward_kind: RewardKind, shrunk: bool) -> AdvantageKind:
    if preset.owns_advantage:
        return preset.metric_advantage
    if reward_kind == "win_probability" and not preset.uses_segments:
        return "constant"
    if reward_kind == "score" or (shrunk and preset.metric_advantage in UNDOES_SHRINKAGE):
        return "mean"
    return preset.metric_advantage


def _coarse(preset: Preset) -> RatioLevel:
    return "segment" if preset.uses_segments else "sequence"


def _clip(config: ObjectiveConfig, preset: Preset, surrogate: Surrogate, level: RatioLevel) -> tuple[float, float]:
    """What is set, else what surrogate and level call for where they are not the preset's, else the preset's."""
    if surrogate != preset.surrogate:
        low, high = LEVEL_CLIPS[level] if surrogate == "clip" else SURROGATE_CLIPS[surrogate]
    elif surrogate == "clip" and level != preset.ratio_level:
        low, high = LEVEL_CLIPS[level]
    else:
        low, high = preset.clip_low, preset.clip_high
    return (
        low if config.clip_low is None else config.clip_low,
        high if config.clip_high is None else config.clip_high,
    )


def _off_policy(config: OffPolicyConfig) -> OffPolicy:
    masks = config.outside == "mask"
    low, high = MASK_BAND if masks else (0.0, TRUNCATE_AT)
    return OffPolicy(
        weight=config.weight,
        mask_outside=masks,
        low=low if config.low is None else config.low,
        high=high if config.high is None else config.high,
        geometric_band=config.geometric_band,
    )


def _disco(config: ObjectiveConfig) -> Disco | None:
    if config.kind != "disco":
        return None
    knobs = config.disco or DiscoConfig()
    tau = DISCO_TAU[knobs.score] if knobs.tau is None else knobs.tau
    return Disco(knobs.score, tau, knobs.kl_limit, knobs.kl_penalty)
