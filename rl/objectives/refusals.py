"""Combinations of an objective's knobs that make no sense, each with its reason and its cure. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NoReturn

from rewards.errors import UserError
from rl.objective_config import AdvantageKind, ObjectiveConfig
from rl.objectives.objective import Objective
from rl.objectives.preset import Preset

RewardKind = Literal["win_probability", "score", "metric"]

UNDOES_SHRINKAGE: tuple[AdvantageKind, ...] = ("mean_std", "rank_quantile")
"""Kinds that bring every group to full size, however little the judge could tell its rollouts apart."""

NO_RATIO = ("reinforce",)
NO_CLIP = ("reinforce", "sapo")


def check_config(config: ObjectiveConfig, preset: Preset) -> None:
    """What a recipe sets although nothing reads it, or nothing good can come of it.

    Raises:
        UserError: opens with the key's path.
    """
    for key, reason in _config_faults(config, preset):
        _refuse(key, reason)


def _config_faults(config: ObjectiveConfig, preset: Preset) -> Iterator[tuple[str, str]]:
    is_set = {name for name, value in config if value not in (None, ())}
    surrogate = config.surrogate or preset.surrogate
    aggregation = config.aggregation or preset.aggregation

    if config.kind == "disco":
        for key in ("advantage", "surrogate", "ratio_level", "ratio_form", "clip_low", "clip_high", "dual_clip"):
            if key in is_set:
                yield key, "kind disco weighs pairs of answers itself and reads no such knob; remove it"
        for key in ("aggregation", "constant_tokens", "sapo_tau", "focal_gamma"):
            if key in is_set:
                yield key, "kind disco averages each answer's tokens and weighs pairs of answers; remove it"
    elif config.disco is not None:
        yield "disco", f"only kind: disco reads it, and kind is {config.kind}; remove it"
    if config.constant_tokens is not None and aggregation != "constant":
        yield (
            "constant_tokens",
            f"has no effect with aggregation {aggregation}; remove it, or set aggregation: constant",
        )
    for key in ("clip_low", "clip_high"):
        if key in is_set and surrogate in NO_CLIP:
            yield key, f"surrogate {surrogate} does not clip; remove it, or set surrogate: clip"
    if config.dual_clip is not None and surrogate != "clip":
        yield "dual_clip", f"bounds the ratio of surrogate clip, and this one is {surrogate}; remove it"
    if config.sapo_tau is not None and surrogate != "sapo":
        yield "sapo_tau", f"only surrogate sapo reads it, and this one is {surrogate}; remove it"
    for key in ("ratio_level", "ratio_form"):
        if key in is_set and surrogate in NO_RATIO:
            yield key, f"surrogate {surrogate} has no ratio; remove it, or set surrogate: clip"
    if config.ratio_form is not None and (config.ratio_level or preset.ratio_level) == "token":
        yield "ratio_form", "nothing is averaged at ratio_level token; remove it, or average over segment or sequence"
    if config.ratio_form == "token" and surrogate == "gmpo":
        yield "ratio_form", "gmpo's geometric mean passes its gradient through the mean; remove it"
    for key in ("kl_estimator", "kl_in"):
        if key in is_set and config.kl_coef == 0:
            yield key, "has no effect while kl_coef is 0; set that, or remove this"
    if config.old_logprobs == "bypass" and config.kind == "disco":
        yield "old_logprobs", "kind disco holds the policy near the learner's own old one; remove it"
    elif config.old_logprobs == "bypass" and surrogate in NO_RATIO:
        yield "old_logprobs", f"surrogate {surrogate} reads no old logprobs; remove it"
    yield from _criteria_faults(config, preset)
    yield from _segment_faults(config, preset)
    yield from _off_policy_faults(config)


def _criteria_faults(config: ObjectiveConfig, preset: Preset) -> Iterator[tuple[str, str]]:
    if config.criteria is None:
        return
    if preset.uses_segments:
        yield "criteria", f"criteria are of whole answers, and kind {config.kind} learns from segments; remove one"
    if config.kind == "disco":
        yield "criteria", "kind disco reads only who beats whom, by no advantage; remove it, or use another kind"
    if config.kl_coef > 0 and (config.kl_in or preset.kl_in) == "reward":
        yield (
            "criteria",
            "with kl_in: reward the divergence is taken off a reward that nothing is learned from; use loss",
        )


def _segment_faults(config: ObjectiveConfig, preset: Preset) -> Iterator[tuple[str, str]]:
    if preset.uses_segments:
        if config.slate_sees_rank and config.kind == "rank_grpo":
            yield (
                "slate_sees_rank",
                "Rank-GRPO's rewards already count what comes after an item; remove it, or use f_grpo",
            )
        return
    cure = f"kind {config.kind} gives a whole answer one advantage; use f_grpo or rank_grpo, or remove it"
    for key in ("segment_weights", "slate_sees_rank"):
        if getattr(config, key):
            yield key, f"needs segments, and {cure}"
    for key in ("ratio_level", "aggregation"):
        if getattr(config, key) == "segment":
            yield key, f"without segments `segment` is the same as `sequence`, and {cure}"


def _off_policy_faults(config: ObjectiveConfig) -> Iterator[tuple[str, str]]:
    knobs = config.off_policy
    if config.old_logprobs == "bypass" and (knobs.weight != "none" or knobs.geometric_band is not None):
        yield "off_policy", "with old_logprobs: bypass, old and engine are the same, so every weight is 1; remove one"
    if knobs.weight == "none":
        for key in ("low", "high"):
            if getattr(knobs, key) is not None:
                yield f"off_policy.{key}", "bounds a weight, and off_policy.weight is none; set token or sequence"
        if knobs.outside == "mask":
            yield "off_policy.outside", "off_policy.weight is none, so nothing is masked; set token or sequence"
    if knobs.outside == "truncate" and knobs.low is not None:
        yield "off_policy.low", "small weights are not truncated; remove it, or set outside: mask"
    if knobs.outside == "truncate" and knobs.high is not None and knobs.high < 1:
        yield "off_policy.high", "would shrink every token on policy, whose weight is 1; use 1 or more"
    low, high = (0.5 if knobs.low is None else knobs.low), (5.0 if knobs.high is None else knobs.high)
    if knobs.outside == "mask" and not low < 1 < high:
        yield "off_policy.low", f"the band [{low:g}, {high:g}] must hold 1, the weight of a token on policy"
    if knobs.geometric_band is not None and not knobs.geometric_band[0] < 1 < knobs.geometric_band[1]:
        yield "off_policy.geometric_band", "must hold 1, the mean of a rollout on policy"


def check_objective(
    objective: Objective,
    *,
    preset: Preset,
    reward_kind: RewardKind,
    shrunk: bool,
    has_segments: bool | None,
    updates_per_step: int,
    staleness: int,
) -> None:
    """What the resolved objective, the rewards and the rest of the recipe rule out together.

    Raises:
        UserError: opens with the key's path.
    """
    for key, reason in (
        *_advantage_faults(objective, preset, reward_kind, shrunk),
        *_loss_faults(objective, updates_per_step),
        *_staleness_faults(objective, staleness),
    ):
        _refuse(key, reason)
    if objective.uses_segments and has_segments is False:
        _refuse("kind", f"{objective.kind} needs a task whose answers have segments with rewards of their own")


def _advantage_faults(
    objective: Objective, preset: Preset, reward_kind: RewardKind, shrunk: bool
) -> Iterator[tuple[str, str]]:
    advantage = objective.advantage
    if advantage == "constant" and reward_kind != "win_probability":
        yield (
            "advantage",
            "`constant` divides by the std of a perfect order's win rates, but these rewards are of kind "
            f"{reward_kind}; use `mean` or `batch_std`",
        )
    if shrunk and advantage in UNDOES_SHRINKAGE:
        yield (
            "advantage",
            f"`{advantage}` brings every group to the same size, which undoes the shrinkage of the aggregator's "
            "posterior; use `constant`, `mean` or `batch_std`, or an aggregator without a posterior",
        )
    if advantage in preset.refuses:
        yield (
            "advantage",
            f"`{advantage}` contradicts kind {objective.kind}, which is GRPO without division by the group's std; use "
            "`mean`, or kind: grpo",
        )
    if objective.focal_gamma > 0:
        key = "kind" if objective.kind == "focal" else "focal_gamma"
        if reward_kind == "win_probability":
            yield (
                key,
                "the focal scale (1 - mean reward)^gamma is a constant here: inside a group the mean win rate is "
                "always 1/2; use rewards that say how good an answer is by itself, or kind: grpo",
            )
        elif reward_kind == "score" or shrunk:
            yield (
                key,
                "the focal scale needs rewards in [0, 1] whose mean is a group's success rate, and these strengths "
                "are centred in each group; use kind: grpo",
            )


def _loss_faults(objective: Objective, updates_per_step: int) -> Iterator[tuple[str, str]]:
    if objective.loss_kl_coef > 0 and objective.kl_estimator == "k1":
        yield (
            "kl_estimator",
            "k1's gradient is the score, whose mean is 0: in the loss it adds noise and pulls nowhere; use k2 or k3, "
            "or kl_in: reward",
        )
    if objective.kl_coef > 0 and objective.kl_in == "reward":
        if objective.uses_segments:
            yield "kl_in", "segments have a reward each, and the divergence is of the whole answer; use kl_in: loss"
        if objective.disco is not None:
            yield "kl_in", "kind disco reads only who beats whom, not how high a reward is; use kl_in: loss"
    if objective.dual_clip is not None and objective.dual_clip <= 1 + objective.clip_high:
        yield "dual_clip", f"must be more than the clip's upper bound, {1 + objective.clip_high:g}; raise it"
    if objective.surrogate == "gmpo":
        if objective.ratio_level == "token":
            yield "ratio_level", "gmpo is a mean over tokens; use sequence, or surrogate: clip"
        if objective.uses_segments and objective.ratio_level == "sequence":
            yield (
                "ratio_level",
                "gmpo needs one advantage for all tokens of its mean, and segments have one each; use segment",
            )
    if objective.surrogate == "reinforce" and objective.disco is None and updates_per_step > 1:
        yield (
            "surrogate",
            f"reinforce knows no old policy, so rl.updates_per_step {updates_per_step} would learn off policy "
            "unnoticed; use surrogate: clip, or one update",
        )
    if objective.disco is not None and objective.off_policy.is_active:
        yield "off_policy", "kind disco's scores are of whole answers; weights per token would tear them; remove it"


def _staleness_faults(objective: Objective, staleness: int) -> Iterator[tuple[str, str]]:
    """Rollouts of older weights need a loss that sees the probabilities they were sampled with.

    Recomputed old logprobs are those of the weights at the start of the batch: the ratio starts at 1 all the same, and
    what lies between sampling and learning goes uncorrected. Without a ratio only the weights are left, which make
    REINFORCE the truncated importance-sampled policy gradient.
    """
    if staleness == 0 or objective.bypass or objective.off_policy.weight != "none":
        return
    because = f"rl.staleness {staleness} learns from rollouts of older weights, and nothing here accounts for that"
    if objective.disco is not None:
        yield (
            "kind",
            f"{because}: kind disco takes answers for the present policy's own; use staleness 0, or another kind",
        )
        return
    cure = "set it to token or sequence (truncated importance sampling)"
    if objective.surrogate not in NO_RATIO:
        cure += ", or rl.objective.old_logprobs to bypass"
    else:
        because += f" (surrogate {objective.surrogate} knows no old policy)"
    yield "off_policy.weight", f"{because}: {cure}"


def _refuse(key: str, reason: str) -> NoReturn:
    raise UserError(f"rl.objective.{key}: {reason}")
