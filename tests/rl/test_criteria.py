from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.advantages import compute_advantages
from rl.criteria import mix_criteria

NAN = math.nan


def test_each_criterion_counts_as_much_as_its_weight_says() -> None:
    # One group: the first criterion is a hundred times wider than the second, which it contradicts in the last two.
    rewards_PGC = np.array([[[0.0, 0.0], [100.0, 1.0], [0.0, 1.0], [100.0, 0.0]]])
    mixed = mix_criteria(rewards_PGC, [1.0, 2.0], whiten=False)
    np.testing.assert_allclose(mixed, [[-3.0, 3.0, 1.0, -1.0]])  # (-1, 1, -1, 1) + 2 (-1, 1, 1, -1)
    np.testing.assert_allclose(mix_criteria(rewards_PGC, [1.0, 2.0]), mixed / math.sqrt(5))


def test_a_missing_criterion_adds_nothing_and_an_unscored_rollout_is_out() -> None:
    rewards_PGC = [[[0.0, 1.0], [2.0, 3.0], [1.0, NAN], [NAN, NAN]]]
    # first criterion -1 1 0, second -1 1
    np.testing.assert_allclose(mix_criteria(rewards_PGC, [1.0, 1.0], kind="mean", whiten=False), [[-2, 2, 0, 0]])
    whitened = mix_criteria(rewards_PGC, [1.0, 1.0], kind="mean")
    np.testing.assert_allclose(whitened, np.array([[-2, 2, 0, 0]]) / math.sqrt(8 / 3))


@given(st.integers(0, 999), st.integers(1, 3), st.floats(0.1, 5))
def test_one_criterion_is_the_kind_itself_and_units_do_not_matter(seed: int, num_groups: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    rewards_PG = rng.normal(size=(num_groups, 4))
    alone = mix_criteria(rewards_PG[..., None], [weight], whiten=False)
    np.testing.assert_allclose(alone, weight * compute_advantages(rewards_PG, kind="mean_std"), atol=1e-12)
    both = np.stack([rewards_PG, rng.normal(size=(num_groups, 4))], axis=2)
    np.testing.assert_allclose(
        mix_criteria(both * [1.0, 1000.0], [1.0, weight]), mix_criteria(both, [1.0, weight]), atol=1e-9
    )


@given(st.integers(0, 999))
def test_standardised_criteria_are_not_normalised_again(seed: int) -> None:
    once = compute_advantages(np.random.default_rng(seed).normal(size=(3, 5, 2)), kind="mean_std")
    np.testing.assert_allclose(mix_criteria(once, [1.0, 0.5], whiten=False), once @ [1.0, 0.5], atol=1e-9)


def test_weights_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\[P, G, C\] and \[C\]"):
        mix_criteria(np.zeros((1, 2, 3)), [1.0])
