"""Presets resolve to published settings, conflicts are refused with their reason, normalisers are counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from rewards.errors import UserError
from rl.objective_config import AdvantageKind, DiscoConfig, ObjectiveConfig, OffPolicyConfig, RatioLevel
from rl.objectives import (
    PRESETS,
    Disco,
    Objective,
    OffPolicy,
    RewardKind,
    compute_normalizers,
    resolve_objective,
)

OWN_ADVANTAGE = {"rloo": "rloo", "reinforce_pp": "whiten", "reinforce_pp_baseline": "batch_std"}
PRESET_KINDS = get_args(ObjectiveConfig.model_fields["kind"].annotation)


def resolve(config: ObjectiveConfig, *, reward_kind: RewardKind = "win_probability", shrunk: bool = False) -> Objective:
    return resolve_objective(config, reward_kind=reward_kind, shrunk=shrunk, max_tokens=96)


def test_every_kind_of_the_recipe_has_a_preset() -> None:
    assert set(PRESETS) == set(PRESET_KINDS)


# kind: surrogate, ratio level and form, clip, aggregation, advantage for metrics
PUBLISHED: dict[str, tuple[str, str, str, tuple[float, float] | None, str, str]] = {
    "grpo": ("clip", "token", "token", (0.2, 0.2), "sequence", "mean_std"),
    "dr_grpo": ("clip", "token", "token", (0.2, 0.2), "constant", "mean"),
    "dapo": ("clip", "token", "token", (0.2, 0.28), "token", "mean"),
    "gspo": ("clip", "sequence", "mean", (3e-4, 4e-4), "sequence", "mean_std"),
    "gspo_token": ("clip", "sequence", "token", (3e-4, 4e-4), "sequence", "mean_std"),
    "cispo": ("cispo", "token", "token", (1.0, 4.0), "token", "mean_std"),
    "gmpo": ("gmpo", "sequence", "mean", (0.4, 0.4), "sequence", "mean_std"),
    "sapo": ("sapo", "token", "token", None, "sequence", "mean_std"),
    "rloo": ("reinforce", "token", "token", None, "constant", "rloo"),
    "reinforce_pp": ("clip", "token", "token", (0.2, 0.2), "token", "whiten"),
    "reinforce_pp_baseline": ("clip", "token", "token", (0.2, 0.2), "token", "batch_std"),
    "f_grpo": ("clip", "segment", "token", (3e-4, 4e-4), "sequence", "mean"),
    "rank_grpo": ("clip", "segment", "mean", (0.06, 0.08), "segment", "mean_std"),
    "focal": ("clip", "token", "token", (0.2, 0.2), "sequence", "mean_std"),
    "disco": ("reinforce", "token", "token", None, "sequence", "mean"),
}


@pytest.mark.parametrize("kind", PRESET_KINDS)
def test_every_preset_is_what_its_file_says(kind: str) -> None:
    found = resolve(ObjectiveConfig.model_validate({"kind": kind}), reward_kind="metric")
    surrogate, level, form, clip, aggregation, advantage = PUBLISHED[kind]
    assert (found.surrogate, found.ratio_level, found.ratio_form) == (surrogate, level, form)
    assert (found.aggregation, found.advantage) == (aggregation, advantage)
    assert clip is None or (found.clip_low, found.clip_high) == clip
    assert found.uses_segments == (kind in ("f_grpo", "rank_grpo"))
    assert (found.focal_gamma, found.slate_sees_rank, found.segment_weights) == (0.5 if kind == "focal" else 0, 0, ())
    assert (found.kl_coef, found.entropy_coef, found.bypass, found.off_policy.is_active) == (0, 0, False, False)


@pytest.mark.parametrize(
    ("kind", "place", "estimator"),
    [
        ("grpo", "loss", "k3"),
        ("rloo", "reward", "k1"),
        ("reinforce_pp", "reward", "k1"),
        ("reinforce_pp_baseline", "loss", "k2"),
        ("f_grpo", "loss", "k3"),
    ],
)
def test_a_divergence_stands_where_the_method_has_it(kind: str, place: str, estimator: str) -> None:
    found = resolve(ObjectiveConfig.model_validate({"kind": kind, "kl_coef": 0.1}))
    assert (found.kl_in, found.kl_estimator) == (place, estimator)
    assert (found.loss_kl_coef, found.reward_kl_coef) == ((0.1, 0) if place == "loss" else (0, 0.1))
    assert found.all_rollouts_teach == (place == "loss")


def test_moving_a_divergence_brings_an_estimator_that_works_there() -> None:
    assert resolve(ObjectiveConfig(kind="grpo", kl_coef=0.1, kl_in="reward")).kl_estimator == "k1"
    assert resolve(ObjectiveConfig(kind="rloo", kl_coef=0.1, kl_in="loss")).kl_estimator == "k3"


@pytest.mark.parametrize(
    ("level", "clip"), [("token", (0.2, 0.2)), ("segment", (3e-4, 4e-4)), ("sequence", (3e-4, 4e-4))]
)
def test_the_clip_follows_the_ratio_level(level: RatioLevel, clip: tuple[float, float]) -> None:
    found = resolve(ObjectiveConfig(kind="f_grpo", ratio_level=level))
    assert (found.ratio_level, found.clip_low, found.clip_high) == (level, *clip)
    assert resolve(ObjectiveConfig(kind="f_grpo", ratio_level=level, clip_low=0.1)).clip_low == 0.1


def test_a_surrogate_that_is_set_brings_its_own_clip_and_level() -> None:
    found = resolve(ObjectiveConfig(kind="dapo", surrogate="gmpo"))
    assert (found.ratio_level, found.ratio_form, found.clip_low, found.clip_high) == ("sequence", "mean", 0.4, 0.4)
    assert resolve(ObjectiveConfig(kind="f_grpo", surrogate="gmpo")).ratio_level == "segment"
    assert resolve(ObjectiveConfig(kind="grpo", surrogate="cispo")).clip_high == 4.0
    assert resolve(ObjectiveConfig(kind="cispo", surrogate="clip")).clip_high == 0.2


def test_off_policy_defaults() -> None:
    def knobs(**keys: Any) -> OffPolicy:
        return resolve(ObjectiveConfig(off_policy=OffPolicyConfig(**keys))).off_policy

    assert knobs() == OffPolicy()
    assert knobs(weight="token") == OffPolicy("token", high=2.0)
    assert knobs(weight="token", outside="mask") == OffPolicy("token", mask_outside=True, low=0.5, high=5.0)
    assert knobs(geometric_band=(0.9, 1.1)) == OffPolicy(geometric_band=(0.9, 1.1))


def test_disco_defaults() -> None:
    assert resolve(ObjectiveConfig(kind="disco")).disco == Disco("log_l", 10.0, 1e-4, 1e3)
    by_ratio = resolve(ObjectiveConfig(kind="disco", disco=DiscoConfig(score="l_ratio")))
    assert by_ratio.disco == Disco("l_ratio", 1.0, 1e-4, 1e3)
    assert by_ratio.surrogate == "clip"
    assert by_ratio.clip_high > 1e8  # no clip: ratios end at e^20


def test_a_knob_that_is_set_wins() -> None:
    config = ObjectiveConfig(
        kind="grpo",
        advantage="rloo",
        clip_low=0.1,
        clip_high=5.0,
        aggregation="constant",
        constant_tokens=7,
        kl_coef=0.5,
    )
    assert resolve(config) == Objective("grpo", "rloo", "token", 0.1, 5.0, "constant", 7, 0.5)


@pytest.mark.parametrize("kind", PRESET_KINDS)
@pytest.mark.parametrize("shrunk", [False, True])
def test_the_default_advantage_follows_the_rewards(kind: str, shrunk: bool) -> None:
    config = ObjectiveConfig.model_validate({"kind": kind})
    if kind in OWN_ADVANTAGE:
        for reward_kind in get_args(RewardKind):
            assert resolve(config, reward_kind=reward_kind, shrunk=shrunk).advantage == OWN_ADVANTAGE[kind]
        return
    segments = PRESETS[config.kind].uses_segments
    if kind != "focal":
        expected = "mean" if segments else "constant"
        assert resolve(config, reward_kind="win_probability", shrunk=True).advantage == expected
        assert resolve(config, reward_kind="score", shrunk=shrunk).advantage == "mean"
        assert resolve(config, reward_kind="metric", shrunk=True).advantage == "mean"


@pytest.mark.parametrize("advantage", ["mean_std", "rank_quantile"])
@pytest.mark.parametrize("reward_kind", ["win_probability", "score"])
def test_shrinkage_is_not_undone(advantage: AdvantageKind, reward_kind: RewardKind) -> None:
    config = ObjectiveConfig(kind="grpo", advantage=advantage)
    with pytest.raises(UserError, match=r"rl\.objective\.advantage: .*undoes the shrinkage"):
        resolve(config, reward_kind=reward_kind, shrunk=True)
    assert resolve(config, reward_kind=reward_kind).advantage == advantage


@pytest.mark.parametrize("advantage", ["constant", "mean", "batch_std", "rloo"])
def test_scales_that_keep_the_shrinkage_are_allowed(advantage: AdvantageKind) -> None:
    assert resolve(ObjectiveConfig(advantage=advantage), shrunk=True).advantage == advantage


@pytest.mark.parametrize("reward_kind", ["score", "metric"])
def test_constant_is_for_win_probabilities(reward_kind: RewardKind) -> None:
    with pytest.raises(UserError, match=rf"win rates, but these rewards are of kind {reward_kind}"):
        resolve(ObjectiveConfig(advantage="constant"), reward_kind=reward_kind)


def test_dr_grpo_with_std_division_is_refused() -> None:
    with pytest.raises(UserError, match=r"contradicts kind dr_grpo.*kind: grpo"):
        resolve(ObjectiveConfig(kind="dr_grpo", advantage="mean_std"), reward_kind="metric")


def test_a_divisor_without_effect_is_refused() -> None:
    with pytest.raises(UserError, match=r"rl\.objective\.constant_tokens: has no effect with aggregation token"):
        resolve(ObjectiveConfig(kind="dapo", constant_tokens=5))


def test_messages_are_one_line() -> None:
    with pytest.raises(UserError) as refused:
        resolve(ObjectiveConfig(advantage="mean_std"), shrunk=True)
    assert "\n" not in str(refused.value)


# --- normalisers --------------------------------------------------------------------------------------------------

# Three rollouts: segments 0 and 1 in the first, only 0 and one free token in the second, no loss token in the third.
IDS = [[0, 0, 1], [-1, 0], [1, 1, 1, 1]]
MASKS = [[True, True, True], [True, True], [False, False, False, False]]


def objective(aggregation: str) -> Objective:
    return resolve(ObjectiveConfig.model_validate({"kind": "dr_grpo", "aggregation": aggregation}))


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("token", [1, 3, 1]), ("sequence", [1, 2, 1]), ("constant", [192, 192, 192])]
)
def test_normalizers_by_hand(aggregation: str, expected: list[float]) -> None:
    assert compute_normalizers(IDS, MASKS, objective=objective(aggregation)).tolist() == expected


@pytest.mark.parametrize("aggregation", ["token", "sequence", "constant"])
def test_normalizers_do_not_see_padding_and_add_up(aggregation: str) -> None:
    knobs = objective(aggregation)
    ids_BT, mask_BT = np.full((3, 4), 9), np.zeros((3, 4), dtype=bool)
    for b, (ids, mask) in enumerate(zip(IDS, MASKS, strict=True)):
        ids_BT[b, : len(ids)], mask_BT[b, : len(ids)] = ids, mask
    whole = compute_normalizers(IDS, MASKS, objective=knobs)
    np.testing.assert_array_equal(compute_normalizers(ids_BT, mask_BT, objective=knobs), whole)
    if aggregation != "constant":  # there a part has its divisor in every bucket it knows
        parts = [compute_normalizers(IDS[b : b + 1], MASKS[b : b + 1], objective=knobs) for b in range(3)]
        np.testing.assert_array_equal(sum(np.pad(part, (0, 3 - len(part))) for part in parts), whole)


def test_a_segment_mean_counts_pairs_of_rollout_and_segment() -> None:
    # pairs: (first, 0), (first, 1), (second, 0); the free token has the one rollout that holds it
    knobs = replace(objective("sequence"), aggregation="segment")
    assert compute_normalizers(IDS, MASKS, objective=knobs).tolist() == [1, 3, 3]


def test_segment_weights_are_in_the_normalizers() -> None:
    knobs = replace(objective("token"), segment_weights=(2.0, 0.0))
    assert compute_normalizers(IDS, MASKS, objective=knobs).tolist() == [1, 1.5, np.inf]


def test_normalizers_of_nothing() -> None:
    assert compute_normalizers([], [], objective=objective("token")).tolist() == [0]
