"""Held-out maths: outcomes, win rate, bootstrap, agreement."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import RunStopped
from rewards.types import Call, GroupScore, Match, Pairing, Verdict, VerdictKind
from rl import evaluation
from rl.evaluation import bootstrap_ci95, compare_lengths, judge_agreement, outcome_of, summarize_heldout
from tests.rl.oracles import slow_bootstrap_ci95


def pair(forward: float | None, backward: float | None, *, kind: VerdictKind = "hard") -> GroupScore:
    """A pair whose judge said `forward` with the opponent shown first and `backward` with the current policy first."""

    def call(first: int, value: float | None) -> Call:
        return Call(first, 1 - first, Verdict(value, failure="timeout" if value is None else None), judge="j")

    match = Match(Pairing(0, 1), (call(0, forward), call(1, backward)))
    return GroupScore(rewards=[0.5, 0.5], matches=(match,), kind=kind)


@pytest.mark.parametrize(
    ("forward", "backward", "expected"),
    [
        (0.0, 1.0, 1.0),  # the current policy wins in both seats
        (1.0, 0.0, 0.0),
        (1.0, 1.0, 0.5),  # whoever is shown first wins: the judge prefers a seat, not an answer
        (0.5, 1.0, 1.0),
        (None, 1.0, 1.0),  # one failed order of two leaves one vote
        (1.0, None, 0.0),
        (None, None, None),
    ],
)
def test_outcome_is_seen_from_the_current_policy(
    forward: float | None, backward: float | None, expected: float | None
) -> None:
    assert outcome_of(pair(forward, backward)) == expected


def test_outcome_of_scores_and_probabilities() -> None:
    assert outcome_of(pair(-3.0, 1.0, kind="score")) == 1.0
    assert outcome_of(pair(3.0, 1.0, kind="score")) == 0.0
    assert outcome_of(pair(-2.0, -2.0, kind="score")) == 0.5
    assert outcome_of(pair(0.6, 0.7, kind="probability")) == 1.0


def test_gates_decide_before_the_judge() -> None:
    won = pair(0.0, 1.0)
    assert outcome_of(replace(won, gate_failures={"length": (1,)})) == 0.0
    assert outcome_of(replace(pair(1.0, 0.0), gate_failures={"length": (0,)})) == 1.0
    assert outcome_of(replace(won, gate_failures={"length": (0,), "copy_ratio": (1,)})) == 0.5
    assert outcome_of(replace(won, gate_failures={"length": (0,), "copy_ratio": (0,)})) == 1.0
    assert outcome_of(GroupScore(rewards=[1.0, 0.0], gate_failures={"length": (1,)})) == 0.0
    assert outcome_of(replace(won, gate_failures={"length": ()})) == 1.0


@pytest.mark.parametrize(
    ("rewards", "expected"), [([0.1, 0.4], 1.0), ([0.4, 0.1], 0.0), ([0.2, 0.2], 0.5), ([None, 0.4], None)]
)
def test_without_matches_the_rewards_decide(rewards: list[float | None], expected: float | None) -> None:
    assert outcome_of(GroupScore(rewards=rewards)) == expected


def test_outcome_of_anything_but_a_pair_is_a_bug() -> None:
    with pytest.raises(ValueError, match="3 in 0"):
        outcome_of(GroupScore(rewards=[0.0, 0.5, 1.0]))


# --- the win rate -------------------------------------------------------------------------------------------------


def test_win_rate_weighs_prompts_equally() -> None:
    result = summarize_heldout([[1, 1, 0, None], [0.5], [None, None], []], opponent="start", num_resamples=100, seed=0)
    assert result.win_rate == pytest.approx((2 / 3 + 0.5) / 2)
    assert (result.num_prompts, result.num_unscored, result.num_pairs) == (2, 2, 4)
    assert result.to_json() == {
        "win_rate": result.win_rate,
        "ci95": [pytest.approx(0.5), pytest.approx(2 / 3)],
        "num_prompts": 2,
        "num_unscored": 2,
        "num_pairs": 4,
        "opponent": "start",
    }


def test_no_verdict_at_all_stops_the_run() -> None:
    with pytest.raises(RunStopped, match="no verdict on any of 2 held-out prompts"):
        summarize_heldout([[None], [None]], opponent="start", num_resamples=100, seed=0)


@given(
    per_prompt=st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=2, max_size=12),
    num_resamples=st.integers(100, 200),
    seed=st.integers(0, 1000),
)
def test_bootstrap_equals_the_oracle(per_prompt: list[float], num_resamples: int, seed: int) -> None:
    low, high = bootstrap_ci95(per_prompt, num_resamples=num_resamples, seed=seed)
    assert (low, high) == pytest.approx(slow_bootstrap_ci95(per_prompt, num_resamples, seed), abs=1e-12)
    assert min(per_prompt) - 1e-12 <= low <= high <= max(per_prompt) + 1e-12


def test_bootstrap_in_pieces_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(33)
    whole = bootstrap_ci95(values, num_resamples=1000, seed=3)
    monkeypatch.setattr(evaluation, "RESAMPLED_AT_ONCE", 100)
    assert bootstrap_ci95(values, num_resamples=1000, seed=3) == whole


def test_bootstrap_width_is_that_of_the_mean() -> None:
    wins = np.arange(400) % 2
    low, high = bootstrap_ci95(wins, num_resamples=10_000, seed=0)
    normal = 1.96 * 0.5 / math.sqrt(400)
    assert low == pytest.approx(0.5 - normal, abs=0.005)
    assert high == pytest.approx(0.5 + normal, abs=0.005)


def test_bootstrap_depends_on_its_seed_only() -> None:
    values = np.random.default_rng(0).random(20)
    first = bootstrap_ci95(values, num_resamples=200, seed=1)
    assert first == bootstrap_ci95(values, num_resamples=200, seed=1)
    assert first != bootstrap_ci95(values, num_resamples=200, seed=2)


def test_one_prompt_says_nothing_of_others() -> None:
    assert bootstrap_ci95([1.0], num_resamples=100, seed=0) == (0.0, 1.0)


# --- beside the win rate ------------------------------------------------------------------------------------------


def test_lengths() -> None:
    assert compare_lengths([10, 20], [30, 31]).to_json() == {"before": 15.0, "after": 30.5}
    with pytest.raises(ValueError, match="no answers"):
        compare_lengths([], [1])


def test_agreement_by_hand() -> None:
    # both decide 10 pairs: 6 alike wins, 2 alike losses, 1 win/loss, 1 tie/win.
    # share 0.8; first: 7 wins 1 tie 2 losses, second: 7 wins 3 losses; chance 0.7*0.7 + 0.2*0.3 = 0.55; kappa 0.25/0.45
    first = [1, 1, 1, 1, 1, 1, 0, 0, 1, 0.5, None, 1]
    second = [1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, None]
    agreement = judge_agreement(first, second)
    assert agreement.num_pairs == 10
    assert agreement.share == pytest.approx(0.8)
    assert agreement.kappa == pytest.approx(0.25 / 0.45)
    assert set(agreement.to_json()) == {"share", "kappa", "num_pairs"}


def test_agreement_at_its_ends() -> None:
    assert judge_agreement([1, 0, 0.5], [1, 0, 0.5]).kappa == pytest.approx(1.0)
    assert judge_agreement([1, 0], [0, 1]).kappa == pytest.approx(-1.0)
    assert judge_agreement([1, 1], [1, 1]).kappa is None  # chance alone would agree as often
    nothing = judge_agreement([None], [1])
    assert (nothing.share, nothing.kappa, nothing.num_pairs) == (None, None, 0)


def test_agreement_refuses_what_is_no_outcome() -> None:
    with pytest.raises(ValueError, match="outcomes"):
        judge_agreement([0.7], [1.0])
    with pytest.raises(ValueError, match="zip"):
        judge_agreement([1.0], [1.0, 0.0])
