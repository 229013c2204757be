"""Rollouts that failed a gate stand outside the fit."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.gate_rewards import apply_factors, merge_gated, soft_factor


def test_probabilities_by_hand() -> None:
    # Three survivors with 1, .5, 0 over two opponents; two failed: (p * 2 + 2) / 4.
    merged = merge_gated([1.0, None, 0.5, 0.0, None], {0, 2, 3}, {1, 4}, "probability")
    assert merged == pytest.approx([1.0, 0.0, 0.75, 0.5, 0.0])
    assert sum(reward for reward in merged if reward is not None) / 5 == pytest.approx(0.45)


def test_strengths_by_hand() -> None:
    assert merge_gated([1.2, -0.4, None], {0, 1}, {2}, "strength") == [1.2, -0.4, -1.4]
    assert merge_gated([None, 0.3, 0.2], {1, 2}, {0}, "strength") == [-1.0, 0.3, 0.2]


@pytest.mark.parametrize("unit", ["probability", "strength"])
def test_all_failed_is_all_zero(unit) -> None:
    assert merge_gated([None, None], set(), {0, 1}, unit) == [0.0, 0.0]


def test_a_lone_survivor_is_scored_without_a_match() -> None:
    assert merge_gated([None, None, None], {1}, {0, 2}, "probability") == [0.0, 1.0, 0.0]
    assert merge_gated([None, None, None], {1}, {0, 2}, "strength") == [-1.0, 0.0, -1.0]


@pytest.mark.parametrize("unit", ["probability", "strength"])
def test_nothing_failed_changes_nothing(unit) -> None:
    assert merge_gated([0.7, None, 0.3], {0, 2}, set(), unit) == [0.7, None, 0.3]


def test_unscored_survivors_and_absent_slots_stay_unscored() -> None:
    assert merge_gated([0.6, 0.4, None, None, None], {0, 1, 2}, {3}, "probability") == [0.8, 0.7, None, 0.0, None]


@given(
    rewards=st.lists(st.floats(0, 1), min_size=2, max_size=6),
    num_failed=st.integers(1, 5),
)
def test_order_is_kept_and_the_failed_are_below(rewards: list[float], num_failed: int) -> None:
    slots = [*rewards, *[None] * num_failed]
    survivors = set(range(len(rewards)))
    failed = set(range(len(rewards), len(slots)))
    merged = merge_gated(slots, survivors, failed, "probability")
    above = [reward for reward in merged[: len(rewards)] if reward is not None]
    assert min(above) > 0.0
    assert max(above) <= 1.0
    assert all(merged[i] == 0.0 for i in failed)
    ranked = sorted(range(len(rewards)), key=lambda i: rewards[i])
    assert all(above[i] <= above[j] for i, j in pairwise(ranked))


# --- soft gates ----------------------------------------------------------------------------------------------------


def test_soft_factor_by_hand() -> None:
    # sqrt((0.5 + .01) / 1.01 * (1 + .01) / 1.01); a zero costs (0.01 / 1.01) ** (1 / 2).
    assert soft_factor({"a": 0.5, "b": 1.0}, {"a": 1.0, "b": 1.0}) == pytest.approx((0.51 / 1.01) ** 0.5)
    assert soft_factor({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 1.0}) == pytest.approx((1 / 101) ** 0.5)
    assert soft_factor({"a": 0.0, "b": 1.0}, {"a": 3.0, "b": 1.0}) == pytest.approx((1 / 101) ** 0.75)
    assert soft_factor({"a": 0.0}, {"a": 7.0}) == pytest.approx(1 / 101)
    assert soft_factor({}, {"a": 1.0}) == 1.0


@given(scores=st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), min_size=1))
def test_soft_factor_is_between_its_bounds_and_at_most_the_smoothed_mean(scores: dict[str, float]) -> None:
    factor = soft_factor(scores, dict.fromkeys("abcd", 1.0))
    assert 1 / 101 - 1e-12 <= factor <= 1.0 + 1e-12
    assert factor <= (sum(scores.values()) / len(scores) + 0.01) / 1.01 + 1e-12


def test_factors_by_hand() -> None:
    assert apply_factors([0.5, None, 1.0], {0: 0.5, 1: 0.5}, "probability") == [0.25, None, 1.0]
    assert apply_factors([0.5, -1.0], {0: 1.0, 1: 0.5}, "strength") == pytest.approx([0.5, -1.0 - math.log(2)])
    assert apply_factors([4.0, -4.0, 0.0], {0: 0.75, 1: 0.75, 2: 0.5}, "metric") == [3.0, -5.0, 0.0]


@pytest.mark.parametrize("unit", ["probability", "strength", "metric"])
@given(reward=st.floats(0, 1), low=st.floats(0.0099, 1), high=st.floats(0.0099, 1))
def test_a_smaller_factor_never_pays_more(unit, reward: float, low: float, high: float) -> None:
    low, high = sorted((low, high))
    worse, better = apply_factors([reward, reward], {0: low, 1: high}, unit)
    assert worse is not None
    assert better is not None
    assert worse <= better <= reward
