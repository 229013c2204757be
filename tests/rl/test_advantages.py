"""Advantages: golden numbers, the slow oracle, and what must hold for any rewards."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.advantages import build_train_advantages, compute_advantages, perfect_order_std
from rl.config import AdvantageKind
from tests.rl.oracles import slow_advantages

KINDS: tuple[AdvantageKind, ...] = get_args(AdvantageKind)
NAN = math.nan

# Multiples of 1/64 keep sums exact: equal rewards are exactly equal, others differ by far more than the tolerance.
reward = st.integers(-128, 128).map(lambda n: n / 64)
groups = st.lists(st.lists(st.none() | reward, min_size=1, max_size=7), min_size=1, max_size=5)
kinds = st.sampled_from(KINDS)
group_kinds = st.sampled_from([kind for kind in KINDS if kind != "whiten"])
"""Kinds whose baseline is the group's; `whiten` has the batch's."""


def padded(rewards: list[list[float | None]]) -> np.ndarray:
    width = max(len(group) for group in rewards)
    return np.array([[NAN if r is None else r for r in group] + [NAN] * (width - len(group)) for group in rewards])


# --- golden numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # rewards 0.2 0.8 0.5 and one unscored: mean 0.5, population variance 0.06, constant(3) = sqrt(4/24)
        ("mean", [-0.3, 0.3, 0.0, 0.0]),
        ("constant", [-0.3 * math.sqrt(6), 0.3 * math.sqrt(6), 0.0, 0.0]),
        ("mean_std", [-0.3 / math.sqrt(0.06), 0.3 / math.sqrt(0.06), 0.0, 0.0]),
        ("batch_std", [-0.3 / math.sqrt(0.06), 0.3 / math.sqrt(0.06), 0.0, 0.0]),
        ("whiten", [-0.3 / math.sqrt(0.06), 0.3 / math.sqrt(0.06), 0.0, 0.0]),
        ("rloo", [-0.45, 0.45, 0.0, 0.0]),
        ("rank_quantile", [-0.5 * math.sqrt(6), 0.5 * math.sqrt(6), 0.0, 0.0]),
    ],
)
def test_golden_values_of_one_group(kind: AdvantageKind, expected: list[float]) -> None:
    np.testing.assert_allclose(compute_advantages([[0.2, 0.8, 0.5, NAN]], kind=kind), [expected], atol=1e-15)


def test_batch_std_is_one_scale_for_all_groups() -> None:
    # centred: -1 1 and -3 3, mean square (1+1+9+9)/4 = 5; the third group has one scored rollout and does not count
    advantages = compute_advantages([[0, 2], [0, 6], [100, NAN]], kind="batch_std")
    np.testing.assert_allclose(advantages, np.array([[-1, 1], [-3, 3], [0, 0]]) / math.sqrt(5))


def test_whitening_needs_no_group() -> None:
    # 0 2 | 4: mean 2, variance 8/3; level inside its group, the third teaches all the same
    advantages = compute_advantages([[0, 2], [4, NAN]], kind="whiten")
    np.testing.assert_allclose(advantages, np.array([[-2, 0], [2, 0]]) / math.sqrt(8 / 3))


def test_tied_ranks_share_their_mean() -> None:
    # ranks of 1 1 3 7: 0.5 0.5 2 3 of 3; constant(4) = sqrt(5/36)
    advantages = compute_advantages([[1, 7, 1, 3]], kind="rank_quantile")
    np.testing.assert_allclose(advantages, [np.array([-1 / 3, 1 / 2, -1 / 3, 1 / 6]) / math.sqrt(5 / 36)])


@pytest.mark.parametrize("num", [2, 3, 8, 64])
def test_constant_is_the_std_of_a_perfect_order(num: int) -> None:
    assert perfect_order_std(num) == pytest.approx(np.std(np.arange(num) / (num - 1)))
    order = np.random.default_rng(num).permutation(num) / (num - 1)
    by_constant = compute_advantages([order], kind="constant")
    for same in ("mean_std", "rank_quantile"):
        np.testing.assert_allclose(compute_advantages([order], kind=same), by_constant, atol=1e-12)


def test_constant_counts_the_scored_only() -> None:
    np.testing.assert_allclose(compute_advantages([[0, 1, NAN, NAN, NAN]], kind="constant"), [[-1, 1, 0, 0, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_equal_up_to_rounding_are_no_signal(kind: AdvantageKind) -> None:
    noise = np.array([0.3, 0.1 + 0.2, 0.3000001, np.float32(0.3)])
    assert not compute_advantages([noise], kind=kind).any()
    assert not compute_advantages([1e6 * noise], kind=kind).any()
    assert not compute_advantages([[0.0, 0.0, -0.0]], kind=kind).any()


def test_a_rounding_error_breaks_no_tie_in_ranks() -> None:
    advantages = compute_advantages([[0.3, 0.1 + 0.2, 0.9]], kind="rank_quantile")
    assert advantages[0, 0] == advantages[0, 1]


@pytest.mark.parametrize("kind", ["mean_std", "rank_quantile"])
def test_small_but_real_differences_are_signal(kind: AdvantageKind) -> None:
    np.testing.assert_allclose(compute_advantages([[0.5, 0.5001]], kind=kind), [[-1, 1]], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_than_two_scored_give_zeros(kind: AdvantageKind) -> None:
    assert not compute_advantages([[5.0, NAN], [NAN, NAN]], kind=kind).any()
    assert compute_advantages(np.zeros((0, 4)), kind=kind).shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_are_normalised_by_themselves(kind: AdvantageKind) -> None:
    rng = np.random.default_rng(0)
    rewards_PGS = rng.normal(size=(3, 5, 2)) * [1, 100]
    rewards_PGS[0, 1, 1] = NAN  # a rollout without a second segment
    advantages_PGS = compute_advantages(rewards_PGS, kind=kind)
    for s in range(2):
        np.testing.assert_array_equal(advantages_PGS[:, :, s], compute_advantages(rewards_PGS[:, :, s], kind=kind))


def test_bad_input_is_an_error() -> None:
    with pytest.raises(ValueError, match="finite"):
        compute_advantages([[1.0, math.inf]], kind="mean")
    with pytest.raises(ValueError, match="shape"):
        compute_advantages([1.0, 2.0], kind="mean")
    with pytest.raises(ValueError, match="baseline ids"):
        compute_advantages([[1.0, 2.0]], kind="mean", baseline_ids_PG=[[0]])
    with pytest.raises(ValueError, match="unknown kind"):
        compute_advantages([[1.0, 2.0]], kind="median")  # pyright: ignore[reportArgumentType]


# --- the oracle and properties ------------------------------------------------------------------------------------


@given(rewards=groups, kind=kinds, data=st.data())
def test_equals_the_oracle(rewards: list[list[float | None]], kind: AdvantageKind, data: st.DataObject) -> None:
    ids = [[data.draw(st.integers(-1, 2)) for _ in group] for group in rewards]
    width = max(len(group) for group in rewards)
    ids_PG = [row + [0] * (width - len(row)) for row in ids]
    advantages = compute_advantages(padded(rewards), kind=kind, baseline_ids_PG=ids_PG)
    for p, row in enumerate(slow_advantages(rewards, kind, ids)):
        np.testing.assert_allclose(advantages[p, : len(row)], row, atol=1e-9)
        assert not advantages[p, len(row) :].any()


@given(rewards=groups, kind=kinds, data=st.data())
def test_permuting_rollouts_permutes_advantages(
    rewards: list[list[float | None]], kind: AdvantageKind, data: st.DataObject
) -> None:
    rewards_PG = padded(rewards)
    order = data.draw(st.permutations(range(rewards_PG.shape[1])))
    np.testing.assert_allclose(
        compute_advantages(rewards_PG[:, order], kind=kind),
        compute_advantages(rewards_PG, kind=kind)[:, order],
        atol=1e-9,
    )


@given(rewards=groups, kind=group_kinds, shift=reward)
def test_adding_a_number_to_a_group_changes_nothing(
    rewards: list[list[float | None]], kind: AdvantageKind, shift: float
) -> None:
    rewards_PG = padded(rewards)
    shifted_PG = rewards_PG + shift * np.arange(1, len(rewards) + 1)[:, None]
    np.testing.assert_allclose(
        compute_advantages(shifted_PG, kind=kind), compute_advantages(rewards_PG, kind=kind), atol=1e-9
    )


@given(rewards=groups, kind=group_kinds)
def test_each_group_sums_to_zero(rewards: list[list[float | None]], kind: AdvantageKind) -> None:
    np.testing.assert_allclose(compute_advantages(padded(rewards), kind=kind).sum(axis=1), 0, atol=1e-9)


@given(rewards=groups)
def test_whitened_advantages_have_mean_0_and_std_1_over_the_batch(rewards: list[list[float | None]]) -> None:
    rewards_PG = padded(rewards)
    scored = compute_advantages(rewards_PG, kind="whiten")[~np.isnan(rewards_PG)]
    if scored.any():
        assert scored.mean() == pytest.approx(0, abs=1e-9)
        assert scored.std() == pytest.approx(1, abs=1e-9)


@given(rewards=groups, kind=kinds, data=st.data())
def test_unscored_rollouts_change_no_other(
    rewards: list[list[float | None]], kind: AdvantageKind, data: st.DataObject
) -> None:
    rewards_PG = padded(rewards)
    at = data.draw(st.integers(0, rewards_PG.shape[1]))
    wider = compute_advantages(np.insert(rewards_PG, at, NAN, axis=1), kind=kind)
    assert not wider[:, at].any()
    np.testing.assert_allclose(np.delete(wider, at, axis=1), compute_advantages(rewards_PG, kind=kind), atol=1e-12)


@given(rewards=groups, kind=st.sampled_from(["mean_std", "batch_std", "whiten"]))
def test_standardised_rewards_are_not_normalised_again(rewards: list[list[float | None]], kind: AdvantageKind) -> None:
    once = compute_advantages(padded(rewards), kind=kind)
    again = np.where(np.isnan(padded(rewards)), NAN, once)
    if kind == "batch_std":  # lone rollouts are no part of the batch's scale, and have no std of their own
        again = np.where((~np.isnan(again)).sum(axis=1, keepdims=True) < 2, NAN, again)
    np.testing.assert_allclose(compute_advantages(again, kind=kind), once, atol=1e-9)


@given(rewards=groups, kind=st.sampled_from(["mean_std", "batch_std", "rank_quantile", "whiten"]))
def test_scale_free_kinds_ignore_the_unit_of_the_reward(rewards: list[list[float | None]], kind: AdvantageKind) -> None:
    rewards_PG = padded(rewards)
    np.testing.assert_allclose(
        compute_advantages(1000 * rewards_PG, kind=kind), compute_advantages(rewards_PG, kind=kind), atol=1e-9
    )


# --- a batch of groups --------------------------------------------------------------------------------------------


def test_build_drops_small_groups_and_flags_flat_ones() -> None:
    batch = build_train_advantages([[1.0, None, 0.0], [0.5, 0.5], [9.0, None], []], kind="mean")
    np.testing.assert_allclose(batch.advantages_PG, [[0.5, 0, -0.5], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert batch.scored_PG.tolist() == [[True, False, True], [True, True, False], [False] * 3, [False] * 3]
    assert batch.dropped_P.tolist() == [False, False, True, True]
    assert batch.zero_signal_P.tolist() == [False, True, False, False]
    assert (batch.num_dropped, batch.num_zero_signal, batch.num_unscored) == (2, 1, 2)


def test_a_dropped_group_does_not_move_the_batch_scale() -> None:
    kept: list[list[float | None]] = [[0, 1, 2]]
    with_dropped = build_train_advantages([*kept, [0, 1000, None]], kind="batch_std", min_group=3)
    np.testing.assert_array_equal(
        with_dropped.advantages_PG[:1], build_train_advantages(kept, kind="batch_std", min_group=3).advantages_PG
    )


def test_build_takes_baselines_per_group() -> None:
    batch = build_train_advantages([[0, 2, 10, 20], [1, 3]], kind="mean", baseline_ids=[[0, 0, 7, 7], []])
    np.testing.assert_allclose(batch.advantages_PG, [[-1, 1, -5, 5], [-1, 1, 0, 0]])
    with pytest.raises(ValueError, match="baseline ids"):
        build_train_advantages([[0, 1]], kind="mean", baseline_ids=[[0]])


def test_build_of_nothing() -> None:
    batch = build_train_advantages([], kind="constant")
    assert batch.advantages_PG.shape == (0, 0)
    assert (batch.num_dropped, batch.num_zero_signal, batch.num_unscored) == (0, 0, 0)
