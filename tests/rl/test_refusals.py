"""What makes no sense is refused, with its key and the reason; what does make sense is not."""

from __future__ import annotations

from typing import Any

import pytest

from rewards.errors import UserError
from rl.objective_config import ObjectiveConfig
from rl.objectives import PRESETS, Objective, RewardKind, resolve_objective


def resolve(knobs: dict[str, Any], *, reward_kind: RewardKind = "metric", **facts: Any) -> Objective:
    config = ObjectiveConfig.model_validate(knobs)
    return resolve_objective(config, reward_kind=reward_kind, max_tokens=8, **{"shrunk": False} | facts)


FACTS = {"weights": {"facts": 1.0}}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # knobs that nothing reads
    ({"kind": "grpo", "constant_tokens": 5}, "constant_tokens", "no effect with aggregation sequence"),
    ({"kind": "sapo", "clip_low": 0.1}, "clip_low", "surrogate sapo does not clip"),
    ({"kind": "rloo", "clip_high": 0.1}, "clip_high", "surrogate reinforce does not clip"),
    ({"kind": "cispo", "dual_clip": 3.0}, "dual_clip", "this one is cispo"),
    ({"kind": "grpo", "sapo_tau": (1.0, 2.0)}, "sapo_tau", "only surrogate sapo reads it"),
    ({"kind": "rloo", "ratio_level": "sequence"}, "ratio_level", "surrogate reinforce has no ratio"),
    ({"kind": "grpo", "ratio_form": "mean"}, "ratio_form", "nothing is averaged at ratio_level token"),
    ({"kind": "gmpo", "ratio_form": "token"}, "ratio_form", "passes its gradient through the mean"),
    ({"kind": "grpo", "kl_estimator": "k2"}, "kl_estimator", "no effect while kl_coef is 0"),
    ({"kind": "grpo", "kl_in": "reward"}, "kl_in", "no effect while kl_coef is 0"),
    ({"kind": "rloo", "old_logprobs": "bypass"}, "old_logprobs", "reads no old logprobs"),
    ({"kind": "grpo", "disco": {"score": "log_l"}}, "disco", "only kind: disco reads it"),
    # an objective that weighs pairs
    ({"kind": "disco", "advantage": "mean"}, "advantage", "weighs pairs of answers itself"),
    ({"kind": "disco", "surrogate": "clip"}, "surrogate", "weighs pairs of answers itself"),
    ({"kind": "disco", "clip_low": 0.1}, "clip_low", "weighs pairs of answers itself"),
    ({"kind": "disco", "aggregation": "token"}, "aggregation", "averages each answer's tokens"),
    ({"kind": "disco", "focal_gamma": 1.0}, "focal_gamma", "weighs pairs of answers"),
    ({"kind": "disco", "old_logprobs": "bypass"}, "old_logprobs", "learner's own old one"),
    ({"kind": "disco", "off_policy": {"weight": "token"}}, "off_policy", "scores are of whole answers"),
    ({"kind": "disco", "kl_coef": 0.1, "kl_in": "reward"}, "kl_in", "reads only who beats whom"),
    # criteria
    ({"kind": "f_grpo", "criteria": FACTS}, "criteria", "kind f_grpo learns from segments"),
    ({"kind": "disco", "criteria": FACTS}, "criteria", "reads only who beats whom"),
    ({"kind": "grpo", "criteria": FACTS, "kl_coef": 0.1, "kl_in": "reward"}, "criteria", "with kl_in: reward"),
    ({"kind": "reinforce_pp", "criteria": FACTS, "kl_coef": 0.1}, "criteria", "with kl_in: reward"),
    # segments
    ({"kind": "grpo", "segment_weights": (1.0, 0.5)}, "segment_weights", "gives a whole answer one advantage"),
    ({"kind": "dapo", "slate_sees_rank": 1.0}, "slate_sees_rank", "gives a whole answer one advantage"),
    ({"kind": "gspo", "ratio_level": "segment"}, "ratio_level", "the same as `sequence`"),
    ({"kind": "dapo", "aggregation": "segment"}, "aggregation", "the same as `sequence`"),
    ({"kind": "rank_grpo", "slate_sees_rank": 1.0}, "slate_sees_rank", "already count what comes after an item"),
    ({"kind": "f_grpo", "kl_coef": 0.1, "kl_in": "reward"}, "kl_in", "segments have a reward each"),
    ({"kind": "f_grpo", "focal_gamma": 0.5}, "focal_gamma", "segments have a reward each"),
    ({"kind": "rank_grpo", "focal_gamma": 0.5}, "focal_gamma", "segments have a reward each"),
    ({"kind": "f_grpo", "surrogate": "gmpo", "ratio_level": "sequence"}, "ratio_level", "one advantage for all tokens"),
    # values that cannot do what they are for
    ({"kind": "gmpo", "ratio_level": "token"}, "ratio_level", "gmpo is a mean over tokens"),
    ({"kind": "dapo", "dual_clip": 1.2}, "dual_clip", "more than the clip's upper bound, 1.28"),
    ({"kind": "grpo", "kl_coef": 0.1, "kl_estimator": "k1"}, "kl_estimator", "adds noise and pulls nowhere"),
    # the engine's mismatch
    ({"old_logprobs": "bypass", "off_policy": {"weight": "token"}}, "off_policy", "every weight is 1"),
    ({"old_logprobs": "bypass", "off_policy": {"geometric_band": (0.9, 1.1)}}, "off_policy", "every weight is 1"),
    ({"off_policy": {"high": 2.0}}, "off_policy.high", "off_policy.weight is none"),
    ({"off_policy": {"outside": "mask"}}, "off_policy.outside", "nothing is masked"),
    ({"off_policy": {"weight": "token", "high": 0.5}}, "off_policy.high", "would shrink every token on policy"),
    ({"off_policy": {"weight": "token", "low": 0.5}}, "off_policy.low", "small weights are not truncated"),
    ({"off_policy": {"weight": "token", "outside": "mask", "low": 1.5}}, "off_policy.low", "must hold 1"),
    ({"off_policy": {"geometric_band": (1.01, 1.1)}}, "off_policy.geometric_band", "must hold 1"),
]


@pytest.mark.parametrize(
    ("knobs", "key", "reason"), REFUSED, ids=[f"{k.get('kind', '')}-{key}" for k, key, _ in REFUSED]
)
def test_refused_with_its_key_and_reason(knobs: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(knobs)
    message = str(refused.value)
    assert message.startswith(f"rl.objective.{key}: "), message
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["focal", "dapo"])
@pytest.mark.parametrize(
    ("reward_kind", "shrunk", "reason"),
    [
        ("win_probability", True, "the mean win rate is always 1/2"),
        ("win_probability", False, "the mean win rate is always 1/2"),
        ("score", False, "these strengths are centred"),
        ("metric", True, "these strengths are centred"),
    ],
)
def test_a_focal_scale_needs_success_rates(kind: str, reward_kind: RewardKind, shrunk: bool, reason: str) -> None:
    knobs = {"kind": kind} if kind == "focal" else {"kind": kind, "focal_gamma": 1.0}
    with pytest.raises(UserError, match=reason) as refused:
        resolve(knobs, reward_kind=reward_kind, shrunk=shrunk)
    assert str(refused.value).startswith(f"rl.objective.{'kind' if kind == 'focal' else 'focal_gamma'}: ")
    assert resolve(knobs).focal_gamma > 0
    assert resolve({"kind": kind, "focal_gamma": 0.0}, reward_kind=reward_kind, shrunk=shrunk).focal_gamma == 0


@pytest.mark.parametrize("kind", ["f_grpo", "rank_grpo"])
def test_segment_objectives_need_segments(kind: str) -> None:
    with pytest.raises(UserError, match=rf"rl\.objective\.kind: {kind} needs a task whose answers have segments"):
        resolve({"kind": kind}, has_segments=False)
    assert resolve({"kind": kind}, has_segments=True).uses_segments
    assert resolve({"kind": kind}, has_segments=None).uses_segments


def test_reinforce_needs_one_update_per_batch() -> None:
    with pytest.raises(UserError, match=r"rl\.objective\.surrogate: .*updates_per_step 2 would learn off policy"):
        resolve({"kind": "rloo"}, updates_per_step=2)
    assert resolve({"kind": "rloo", "surrogate": "clip"}, updates_per_step=2).surrogate == "clip"
    assert resolve({"kind": "disco"}, updates_per_step=2).disco is not None  # which is held near the old policy


STALE: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "dapo"}, "off_policy.weight", "set it to token or sequence .*, or rl.objective.old_logprobs to bypass$"),
    ({"kind": "cispo", "off_policy": {"geometric_band": (0.9, 1.1)}}, "off_policy.weight", "to bypass$"),
    (
        {"kind": "rloo"},
        "off_policy.weight",
        r"surrogate reinforce knows no old policy.*\(truncated importance sampling\)$",
    ),
    ({"kind": "reinforce_pp", "surrogate": "reinforce"}, "off_policy.weight", r"knows no old policy.*sampling\)$"),
    ({"kind": "disco"}, "kind", "use staleness 0, or another kind$"),
    ({"kind": "disco", "disco": {"score": "l_ratio"}}, "kind", "use staleness 0, or another kind$"),
]


@pytest.mark.parametrize(("knobs", "key", "rule"), STALE)
def test_stale_rollouts_need_a_loss_that_knows_whose_they_are(knobs: dict[str, Any], key: str, rule: str) -> None:
    with pytest.raises(UserError, match=rf"^rl\.objective\.{key}: rl\.staleness 1 learns from rollouts of .*{rule}"):
        resolve(knobs, staleness=1)
    resolve(knobs, staleness=0)


@pytest.mark.parametrize("kind", [kind for kind in PRESETS if kind != "disco"])
def test_a_weight_or_a_ratio_to_the_engine_accounts_for_stale_rollouts(kind: str) -> None:
    for weight in ("token", "sequence"):
        assert resolve({"kind": kind, "off_policy": {"weight": weight}}, staleness=1).off_policy.weight == weight
    if kind != "rloo":  # which has no ratio
        assert resolve({"kind": kind, "old_logprobs": "bypass"}, staleness=1).bypass


@pytest.mark.parametrize(
    "knobs",
    [
        {"kind": "grpo", "kl_coef": 0.1, "kl_in": "reward"},
        {"kind": "rloo", "kl_coef": 0.03},
        {"kind": "f_grpo", "segment_weights": (1.0, 0.5), "slate_sees_rank": 1.0, "kl_coef": 0.1},
        {"kind": "f_grpo", "surrogate": "gmpo"},
        {"kind": "f_grpo", "surrogate": "cispo", "ratio_level": "token"},
        {"kind": "rank_grpo", "aggregation": "token"},
        {"kind": "cispo", "clip_low": 0.5, "clip_high": 1.0, "focal_gamma": 0.5},
        {"kind": "dapo", "old_logprobs": "bypass", "dual_clip": 3.0},
        {"kind": "dapo", "off_policy": {"weight": "token", "high": 2.0, "geometric_band": (0.99, 1.01)}},
        {"kind": "grpo", "off_policy": {"weight": "sequence", "outside": "mask"}},
        {"kind": "disco", "disco": {"score": "l_ratio", "tau": 0.5}, "kl_coef": 0.1, "entropy_coef": 0.01},
        {"kind": "dapo", "criteria": FACTS, "kl_coef": 0.1, "advantage": "mean_std"},
        {"kind": "reinforce_pp", "criteria": FACTS},
    ],
    ids=str,
)
def test_what_makes_sense_is_not_refused(knobs: dict[str, Any]) -> None:
    resolve(knobs)


@pytest.mark.parametrize(("reward_kind", "default"), [("score", "constant"), ("metric", "mean_std")])
def test_criteria_are_raw_whatever_the_aggregator_does(reward_kind: RewardKind, default: str) -> None:
    knobs = {"kind": "grpo", "criteria": FACTS}
    shrunk = reward_kind == "score"
    assert resolve(knobs, reward_kind=reward_kind, shrunk=shrunk).advantage == default
    chosen = resolve(knobs | {"advantage": "mean_std"}, reward_kind=reward_kind, shrunk=shrunk)
    assert chosen.advantage == "mean_std"
    assert chosen.criteria is not None
    assert (dict(chosen.criteria.weights), chosen.criteria.whiten) == ({"facts": 1.0}, True)
