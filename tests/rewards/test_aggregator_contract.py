"""What every aggregator owes: it takes whatever a real tournament produces, and names and batches do not matter."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes
from rewards.aggregators import build_aggregator, reward_unit
from rewards.strict import config_kinds
from rewards.types import MatchLog, Ranking, Slate, Strengths, VerdictKind
from tests.rewards.logs import both_orders, log_of, match_logs, relabelled

KINDS = {name: kind.model_validate({"kind": name}) for name, kind in config_kinds(AggregatorConfig).items()}
every = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS.keys())
verdicts = pytest.mark.parametrize("verdict", ["hard", "probability", "score"])
relaxed = settings(max_examples=25)


def fit(config: AggregatorConfig, *logs: MatchLog, min_verdicts: int = 1) -> list[Strengths]:
    return build_aggregator(config, min_verdicts=min_verdicts).fit(logs)[0]


def rewards_of(config: AggregatorConfig, log: MatchLog, *, min_verdicts: int = 1) -> np.ndarray:
    return np.array(fit(config, log, min_verdicts=min_verdicts)[0].rewards, dtype=float)


def ranked(*orders: tuple[int, ...], num_candidates: int) -> MatchLog:
    rankings = [
        Ranking(Slate(tuple(sorted(order)), number), order, tuple(range(len(order))), "test")
        for number, order in enumerate(orders)
    ]
    return MatchLog(num_candidates, "hard", (), rankings=tuple(rankings))


@every
@verdicts
@relaxed
@given(data=st.data())
def test_anything_a_tournament_produces_gives_sane_numbers(
    config: AggregatorConfig, verdict: VerdictKind, data: st.DataObject
) -> None:
    log = data.draw(match_logs(verdict))
    (one,) = fit(config, log)
    asked = [0] * log.num_candidates
    for match in log.matches:
        for call in match.calls:
            if call.verdict.value is not None:
                asked[call.first] += 1
                asked[call.second] += 1
    assert [reward is not None for reward in one.rewards] == [count > 0 for count in asked]
    rewards = [reward for reward in one.rewards if reward is not None]
    assert np.isfinite(rewards).all()
    if reward_unit(config, verdict) == "probability":
        assert all(-1e-9 <= reward <= 1.0 + 1e-9 for reward in rewards)
    for values in (one.strengths, one.stderrs):
        if values is not None:
            assert [value is None for value in values] == [reward is None for reward in one.rewards]
            assert np.isfinite([value for value in values if value is not None]).all()
    assert all(error >= 0.0 for error in one.stderrs or () if error is not None)
    for share in (one.reliability, one.circular_triad_rate, one.feedback_weight):
        assert share is None or -1e-12 <= share <= 1.0 + 1e-12


@every
@verdicts
@relaxed
@given(data=st.data())
def test_names_do_not_matter(config: AggregatorConfig, verdict: VerdictKind, data: st.DataObject) -> None:
    log = data.draw(match_logs(verdict))
    new_slot = data.draw(st.permutations(range(log.num_candidates)))
    before, after = rewards_of(config, log), rewards_of(config, relabelled(log, new_slot))
    assert after[new_slot] == pytest.approx(before, abs=1e-6, nan_ok=True)


@every
@pytest.mark.parametrize("size", [13, 16])
@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_names_do_not_matter_in_large_groups(config: AggregatorConfig, size: int, share: float) -> None:
    """Beyond what is ordered exactly, a search must not go by slots: coin flips about few and about all pairs."""
    rng = np.random.default_rng(size)
    met = [pair for pair in combinations(range(size), 2) if rng.random() < share]
    log = log_of([(i, j, float(rng.choice([0.0, 0.5, 1.0]))) for i, j in met], size)
    new_slot = rng.permutation(size).tolist()
    before, after = rewards_of(config, log), rewards_of(config, relabelled(log, new_slot))
    assert after[new_slot] == pytest.approx(before, abs=1e-6, nan_ok=True)


@every
@relaxed
@given(data=st.data())
def test_groups_do_not_look_at_each_other_unless_a_prior_is_learned(
    config: AggregatorConfig, data: st.DataObject
) -> None:
    logs = [data.draw(match_logs("hard")) for _ in range(3)]
    together = fit(config, *logs)
    if isinstance(config, EmpiricalBayes):
        assert [one.rewards for one in fit(config, *reversed(logs))][::-1] == [
            [None if r is None else pytest.approx(r, abs=1e-6) for r in one.rewards] for one in together
        ]
        return
    assert [fit(config, log)[0].rewards for log in logs] == [
        [None if r is None else pytest.approx(r, abs=1e-9) for r in one.rewards] for one in together
    ]


@every
@pytest.mark.parametrize("size", [5, 13, 16])
def test_all_ties_are_one_half_and_nobody_is_told_apart(config: AggregatorConfig, size: int) -> None:
    ties = log_of(both_orders([(i, j, 0.5) for i, j in combinations(range(size), 2)]), size)
    assert rewards_of(config, ties) == pytest.approx([0.5] * size, abs=1e-9)


@every
@pytest.mark.parametrize("size", [2, 5, 12, 13, 33])
def test_a_clear_order_is_kept(config: AggregatorConfig, size: int) -> None:
    # Slot 0 is the worst, so that an aggregator that returned the order of slots would fail.
    votes = [(i, j, 0.0) for i, j in combinations(range(size), 2)]
    found = rewards_of(config, log_of(both_orders(votes), size))
    assert (np.diff(found) > 0.0).all()
    assert found.mean() == pytest.approx(0.5, abs=1e-6)


@every
def test_one_match_nothing_and_parts_that_never_met(config: AggregatorConfig) -> None:
    alone = rewards_of(config, log_of([(1, 2, 1.0)], 4))
    assert np.isnan(alone[[0, 3]]).all()
    assert alone[1] > 0.5 > alone[2]
    assert fit(config, log_of([], 3))[0].rewards == [None] * 3
    apart = rewards_of(config, log_of([(0, 1, 1.0), (3, 2, 1.0)], 4))
    assert apart[[0, 1]] == pytest.approx(apart[[3, 2]], abs=1e-6)
    assert apart[0] > apart[1]


@every
def test_a_cycle_is_level(config: AggregatorConfig) -> None:
    cycle = log_of(both_orders([(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)]), 3)
    (one,) = fit(config, cycle)
    # Elo and skills are averaged over orders that a seed drew, not over all.
    exact = 0.08 if config.kind in ("elo", "trueskill") else 1e-6
    assert np.array(one.rewards, dtype=float) == pytest.approx([0.5] * 3, abs=exact)
    assert one.circular_triad_rate == 1.0


@every
def test_too_few_verdicts_leave_a_rollout_unscored(config: AggregatorConfig) -> None:
    log = log_of([(0, 1, 1.0), (1, 0, 0.0), (1, 2, 1.0), (0, 2, None)], 4)
    assert np.isnan(rewards_of(config, log)).tolist() == [False, False, False, True]
    assert np.isnan(rewards_of(config, log, min_verdicts=2)).tolist() == [False, False, True, True]
    assert rewards_of(config, log, min_verdicts=2)[0] > 0.5


@every
def test_a_judge_of_pure_noise_gives_no_nonsense_and_twice_the_same(config: AggregatorConfig) -> None:
    rng = np.random.default_rng(5)
    noise = log_of([(i, j, float(rng.integers(2))) for i, j in permutations(range(14), 2)], 14)
    found = rewards_of(config, noise)
    assert np.isfinite(found).all()
    assert (rewards_of(config, noise) == found).all()


@every
def test_rankings_are_read(config: AggregatorConfig) -> None:
    log = ranked((2, 0, 3, 1), (0, 3, 1, 4), (2, 3, 4, 1), num_candidates=6)
    found = rewards_of(config, log)
    assert np.isnan(found).tolist() == [False] * 5 + [True]
    assert np.argmax(found[:5]) == 2
    assert found[0] > found[3] > max(found[1], found[4])
    level = MatchLog(3, "hard", (), rankings=(Ranking(Slate((0, 1, 2)), (2, 0, 1), (0, 0, 0), "test"),))
    assert rewards_of(config, level) == pytest.approx([0.5] * 3, abs=1e-9)


@every
def test_a_judge_without_weight_is_not_heard(config: AggregatorConfig) -> None:
    if "judge_weights" not in type(config).model_fields:
        pytest.skip("counts every verdict once, and says so")
    deaf = type(config).model_validate({**config.model_dump(), "judge_weights": {"test": 0.0}})
    assert fit(deaf, log_of([(0, 1, 1.0)], 2))[0].rewards == [None, None]
