"""What a recipe's `rl.objective` sets although nothing reads it, or nothing good can come of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rl.objective_config import ObjectiveConfig
from rl.objectives.preset import Preset

NO_RATIO = ("reinforce",)
NO_CLIP = ("reinforce", "sapo")


def config_faults(config: ObjectiveConfig, preset: Preset) -> Iterator[tuple[str, str]]:
    """(key, reason with its cure), before any knob is filled."""
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
            "with kl_in: reward the divergence is taken off a reward that nothing is learned from; use kl_in: loss",
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
