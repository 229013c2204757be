"""Presets resolve to published settings, conflicts are refused with their reason, normalisers are counts."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from rewards.errors import UserError
from rl.config import AdvantageKind, ObjectiveConfig
from rl.objectives import PRESETS, Objective, RewardKind, compute_normalizers, resolve_objective

OWN_ADVANTAGE = {"rloo": "rloo", "reinforce_pp": "whiten", "reinforce_pp_baseline": "batch_std"}
PRESET_KINDS = get_args(ObjectiveConfig.model_fields["kind"].annotation)


def resolve(config: ObjectiveConfig, *, reward_kind: RewardKind = "win_probability", shrunk: bool = False) -> Objective:
    return resolve_objective(config, reward_kind=reward_kind, shrunk=shrunk, max_tokens=96)


def test_every_kind_of_the_recipe_has_a_preset() -> None:
    assert set(PRESETS) == set(PRESET_KINDS)


def test_presets_are_the_published_settings() -> None:
    assert resolve(ObjectiveConfig(kind="grpo"), reward_kind="metric") == Objective(
        "grpo", "mean_std", "token", 0.2, 0.2, "sequence", None, 0.0
    )
    assert resolve(ObjectiveConfig(kind="dr_grpo"), reward_kind="metric") == Objective(
        "dr_grpo", "mean", "token", 0.2, 0.2, "constant", 96, 0.0
    )
    assert resolve(ObjectiveConfig(kind="dapo"), reward_kind="metric") == Objective(
        "dapo", "mean", "token", 0.2, 0.28, "token", None, 0.0
    )


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


def test_normalizers_of_nothing() -> None:
    assert compute_normalizers([], [], objective=objective("token")).tolist() == [0]
