from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.types import Call, GroupScore, Match, Pairing, Verdict
from rl.advantages import build_train_advantages, compute_advantages
from rl.criteria import CriteriaAdvantages, build_criteria_advantages, criterion_rewards, mix_criteria
from rl.objective_config import AdvantageKind
from rl.objectives import Criteria

NAN = math.nan


def test_each_criterion_counts_as_much_as_its_weight_says() -> None:
    # One group: the first criterion is a hundred times wider than the second, which it contradicts in the last two.
    rewards_PGC = np.array([[[0.0, 0.0], [100.0, 1.0], [0.0, 1.0], [100.0, 0.0]]])
    mixed, own = mix_criteria(rewards_PGC, [1.0, 2.0], whiten=False)
    np.testing.assert_allclose(own[0].T, [[-1, 1, -1, 1], [-1, 1, 1, -1]])
    np.testing.assert_allclose(mixed, [[-3.0, 3.0, 1.0, -1.0]])  # (-1, 1, -1, 1) + 2 (-1, 1, 1, -1)
    np.testing.assert_allclose(mix_criteria(rewards_PGC, [1.0, 2.0]).mixed_PG, mixed / math.sqrt(5))


def test_a_missing_criterion_adds_nothing_and_an_unscored_rollout_is_out() -> None:
    rewards_PGC = [[[0.0, 1.0], [2.0, 3.0], [1.0, NAN], [NAN, NAN]]]
    # first criterion -1 1 0, second -1 1
    np.testing.assert_allclose(
        mix_criteria(rewards_PGC, [1.0, 1.0], kind="mean", whiten=False).mixed_PG, [[-2, 2, 0, 0]]
    )
    whitened, _ = mix_criteria(rewards_PGC, [1.0, 1.0], kind="mean")
    np.testing.assert_allclose(whitened, np.array([[-2, 2, 0, 0]]) / math.sqrt(8 / 3))


@given(st.integers(0, 999), st.integers(1, 3), st.floats(0.1, 5))
def test_one_criterion_is_the_kind_itself_and_units_do_not_matter(seed: int, num_groups: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    rewards_PG = rng.normal(size=(num_groups, 4))
    alone, _ = mix_criteria(rewards_PG[..., None], [weight], whiten=False)
    np.testing.assert_allclose(alone, weight * compute_advantages(rewards_PG, kind="mean_std"), atol=1e-12)
    both = np.stack([rewards_PG, rng.normal(size=(num_groups, 4))], axis=2)
    np.testing.assert_allclose(
        mix_criteria(both * [1.0, 1000.0], [1.0, weight]).mixed_PG,
        mix_criteria(both, [1.0, weight]).mixed_PG,
        atol=1e-9,
    )


@given(st.integers(0, 999))
def test_standardised_criteria_are_not_normalised_again(seed: int) -> None:
    once = compute_advantages(np.random.default_rng(seed).normal(size=(3, 5, 2)), kind="mean_std")
    np.testing.assert_allclose(mix_criteria(once, [1.0, 0.5], whiten=False).mixed_PG, once @ [1.0, 0.5], atol=1e-9)


def test_weights_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\[P, G, C\] and \[C\]"):
        mix_criteria(np.zeros((1, 2, 3)), [1.0])


@given(
    st.integers(0, 999),
    st.sampled_from(["constant", "mean", "mean_std", "batch_std", "rloo", "rank_quantile", "whiten"]),
)
def test_whitening_as_gdpo_writes_it(seed: int, kind: AdvantageKind) -> None:
    """Its batch mean is 0 for every kind, whoever is unscored by what: dividing is enough."""
    rng = np.random.default_rng(seed)
    rewards_PGC = rng.normal(size=(3, 4, 2))
    rewards_PGC[rng.random(rewards_PGC.shape) < 0.2] = NAN
    summed, _ = mix_criteria(rewards_PGC, [1.0, 0.7], kind=kind, whiten=False)
    scored_PG = ~np.isnan(rewards_PGC).all(axis=2)
    if not summed.any():
        return
    expected = np.where(scored_PG, (summed - summed[scored_PG].mean()) / summed[scored_PG].std(), 0.0)
    np.testing.assert_allclose(mix_criteria(rewards_PGC, [1.0, 0.7], kind=kind).mixed_PG, expected, atol=1e-9)


def test_criteria_that_cancel_or_never_differ_teach_exactly_nothing() -> None:
    one = np.random.default_rng(3).normal(size=(1, 4))
    against = np.stack([one, -0.1 * one], axis=2)  # equal sizes once normalised, opposite signs
    assert not mix_criteria(against, [0.3, 0.3]).mixed_PG.any()
    level = np.concatenate([against, [[[0.5, 0.5]] * 4], np.stack([one, one], axis=2)])
    mixed, _ = mix_criteria(level, [0.3, 0.3])
    assert mixed.any(axis=1).tolist() == [False, False, True]
    np.testing.assert_allclose((mixed**2).mean(), 1.0)


def test_whole_groups_get_what_trl_gives_them() -> None:
    """TRL 1.16, `multi_objective_aggregation="normalize_then_sum"`: its std has divisor n - 1, which cancels between
    criteria of whole groups and leaves one factor of the batch; it adds 1e-4 to every std, we nothing."""
    rewards_PGC = np.random.default_rng(5).normal(size=(3, 4, 2)) * [1.0, 30.0]
    each = (rewards_PGC - rewards_PGC.mean(1, keepdims=True)) / rewards_PGC.std(1, ddof=1, keepdims=True)
    total = each @ [1.0, 0.3]
    trl = (total - total.mean()) / total.std(ddof=1)
    np.testing.assert_allclose(mix_criteria(rewards_PGC, [1.0, 0.3]).mixed_PG, trl * math.sqrt(12 / 11), atol=1e-12)


# --- from scores --------------------------------------------------------------------------------------------------

CRITERIA = Criteria({"facts": 2.0, "depth": 1.0}, whiten=False)


def match(*, is_routed: bool = False) -> Match:
    judge = "router:gate" if is_routed else "rubric:m"
    return Match(Pairing(0, 1), (Call(first=0, second=1, judge=judge, verdict=Verdict(1.0)),))


def tournament(
    facts: list[float | None], depth: list[float | None], rewards: list[float | None] | None = None
) -> GroupScore:
    return GroupScore(
        rewards=[0.5] * len(facts) if rewards is None else rewards,
        kind="score",
        per_criterion={"facts": facts, "depth": depth},
        matches=(match(),),
    )


def build(scores: list[GroupScore], *, min_group: int = 2, kind: AdvantageKind = "mean") -> CriteriaAdvantages:
    return build_criteria_advantages(scores, CRITERIA, kind=kind, min_group=min_group)


def test_scores_become_one_advantage_per_rollout() -> None:
    found = build([tournament([1.0, 0.5, 0.0], [0.0, 1.0, 0.5]), tournament([0.5, 0.5], [0.5, 0.5])])
    # 2 x (0.5, 0, -0.5) + (-0.5, 0.5, 0)
    np.testing.assert_allclose(found.built.advantages_PG, [[0.5, 0.5, -1.0], [0, 0, 0]])
    assert found.built.zero_signal_P.tolist() == [False, True]
    assert found.built.scored_PG.tolist() == [[True] * 3, [True, True, False]]
    assert (found.built.num_dropped, found.built.num_unscored, found.missing) == (0, 0, ())
    std = math.sqrt(0.5 / 5)
    assert found.metrics == pytest.approx({
        "criterion/facts_num_scored": 5, "criterion/facts_reward": 0.5,
        "criterion/facts_advantage_std": std, "criterion/facts_zero_signal_rate": 0.5,
        "criterion/depth_num_scored": 5, "criterion/depth_reward": 0.5,
        "criterion/depth_advantage_std": std, "criterion/depth_zero_signal_rate": 0.5,
    })  # fmt: skip


def test_who_is_unscored_is_left_out() -> None:
    scores = [
        tournament([1.0, 0.0, None, 0.5], [None, None, None, 1.0], [0.5, 0.5, 0.5, None]),  # slot 3 has no reward
        tournament([0.9, None, None], [None, 0.1, 0.4]),  # one alone has no facts to compare: depth is learned from
        tournament([0.9, None], [None, 0.1]),  # nobody has two of anything
        tournament([None, None], [None, None], [None, None]),
    ]
    built = build(scores).built
    np.testing.assert_allclose(
        built.advantages_PG, [[1, -1, 0, 0], [0, -0.15, 0.15, 0], [0, 0, 0, 0], [0, 0, 0, 0]], atol=1e-12
    )
    assert built.scored_PG.tolist() == [
        [True, True, False, False],
        [False, True, True, False],
        [False] * 4,
        [False] * 4,
    ]
    assert built.dropped_P.tolist() == [False, False, True, True]
    assert built.num_unscored == 2 + 0 + 0 + 2
    assert build(scores, min_group=3).built.dropped_P.all()


def test_a_veto_stands_below_everybody_on_every_criterion() -> None:
    vetoed = GroupScore(
        rewards=[0.75, 0.5, 0.0, None],
        kind="score",
        per_criterion={"facts": [1.0, 0.0, None, None]},
        gate_failures={"length": (2,)},
    )
    # Two others: (p x 1 + 1) / 2; a rollout that never came stays out. Of depth nobody spoke: the veto is left alone.
    assert criterion_rewards(vetoed, "facts") == [1.0, 0.5, 0.0, None]
    assert criterion_rewards(vetoed, "depth") == [None, None, 0.0, None]
    lone = GroupScore(rewards=[1.0, 0.0, 0.0], kind="score", gate_failures={"length": (1, 2), "repetition": (1,)})
    assert criterion_rewards(lone, "facts") == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(build([lone]).built.advantages_PG, [[2, -1, -1]])  # 3 x (2/3, -1/3, -1/3)
    scorer = GroupScore(rewards=[1.0, 0.0], per_criterion={"facts": [0.3, -0.1]}, gate_failures={"length": (1,)})
    assert criterion_rewards(scorer, "facts") == [0.3, -0.1]  # its gates came first


def test_soft_gates_take_from_every_criterion() -> None:
    score = GroupScore(
        rewards=[0.4, 0.1, 0.0],
        kind="hard",
        per_criterion={"facts": [0.5, 0.5, None]},
        gate_failures={"length": (2,)},
        gate_factors=[1.0, 0.5, None],
    )
    assert criterion_rewards(score, "facts") == [0.75, 0.625, 0.0]  # (0.5 x 1 + 1) / 2, (0.25 x 1 + 1) / 2


def test_a_criterion_that_no_verdict_speaks_of_is_named() -> None:
    silent = GroupScore(rewards=[0.0, 1.0], kind="hard", matches=(match(),))
    assert build([silent]).missing == ("facts", "depth")
    one = GroupScore(rewards=[0.0, 1.0], kind="hard", matches=(match(),), per_criterion={"facts": [0.0, 1.0]})
    found = build([one, silent])
    assert found.missing == ("depth",)
    assert found.metrics["criterion/depth_num_scored"] == 0
    assert "criterion/depth_zero_signal_rate" not in found.metrics
    # Gates and routers had the last word everywhere: nobody was asked.
    routed = GroupScore(rewards=[0.0, 1.0], kind="hard", matches=(match(is_routed=True),))
    assert build([routed, GroupScore(rewards=[0.0, 0.0], kind="hard", gate_failures={"length": (0, 1)})]).missing == ()
    assert build([GroupScore(rewards=[0.0, 1.0])]).missing == ("facts", "depth")  # a scorer without criteria


def test_a_criterion_has_a_reward_per_slot() -> None:
    with pytest.raises(ValueError, match="2 slots has 1 rewards of criterion 'facts'"):
        build([GroupScore(rewards=[0.0, 1.0], per_criterion={"facts": [1.0]})])


@given(
    st.lists(st.lists(st.none() | st.floats(0, 1), min_size=2, max_size=4), min_size=1, max_size=3),
    st.sampled_from(["constant", "mean", "mean_std", "batch_std", "rloo", "rank_quantile", "whiten"]),
    st.randoms(use_true_random=False),
)
def test_a_criterion_that_is_the_reward_changes_nothing_and_permuting_permutes(
    rewards: list[list[float | None]], kind: AdvantageKind, random: Random
) -> None:
    scores = [GroupScore(rewards=group, per_criterion={"facts": group}) for group in rewards]
    alone = Criteria({"facts": 1.0}, whiten=False)
    built = build_criteria_advantages(scores, alone, kind=kind, min_group=2).built
    plain = build_train_advantages(rewards, kind=kind, min_group=2)
    np.testing.assert_allclose(built.advantages_PG, plain.advantages_PG, atol=1e-12)
    np.testing.assert_array_equal(built.scored_PG, plain.scored_PG)
    np.testing.assert_array_equal(built.dropped_P, plain.dropped_P)
    assert (built.num_unscored, built.num_zero_signal) == (plain.num_unscored, plain.num_zero_signal)

    both = [
        replace(score, per_criterion={"facts": score.rewards, "depth": [0.5] * len(score.rewards)}) for score in scores
    ]
    orders = [random.sample(range(len(group)), len(group)) for group in rewards]
    moved = [
        GroupScore(
            rewards=[score.rewards[i] for i in order],
            per_criterion={name: [values[i] for i in order] for name, values in score.per_criterion.items()},
        )
        for score, order in zip(both, orders, strict=True)
    ]
    here = build_criteria_advantages(both, CRITERIA, kind=kind, min_group=2).built.advantages_PG
    there = build_criteria_advantages(moved, CRITERIA, kind=kind, min_group=2).built.advantages_PG
    for p, order in enumerate(orders):
        np.testing.assert_allclose(there[p, : len(order)], here[p, order], atol=1e-9)
