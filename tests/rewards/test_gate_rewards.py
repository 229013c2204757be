"""Rollouts that failed a gate stand outside the fit."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.gate_rewards import merge_gated


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
