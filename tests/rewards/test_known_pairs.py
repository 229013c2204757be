"""Figures over pairs with a known better answer, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.diagnostics.known_pairs import (
    accuracy_by_margin,
    brier_score,
    calibration_error,
    human_kappa,
    pair_outcomes,
    pair_results,
    share,
    verdict_accuracy,
)
from rewards.health import wilson_interval
from rewards.types import GroupScore, VerdictKind
from tests.rewards.logs import log_of

NAN = float("nan")


def said(first: float | None, reversed_: float | None, kind: VerdictKind = "hard") -> GroupScore:
    """The better answer (slot 0) shown first, then shown second."""
    return GroupScore([None, None], matches=log_of([(0, 1, first), (1, 0, reversed_)], 2, kind).matches, kind=kind)


def test_orders_are_merged_and_seen_from_the_better_answer() -> None:
    scores = [said(1.0, 0.0), said(1.0, 1.0), said(0.0, None), said(None, None)]
    outcomes_P = pair_outcomes(scores)
    np.testing.assert_array_equal(outcomes_P, [1.0, 0.5, 0.0, NAN])
    results_P = pair_results(outcomes_P, "hard")
    np.testing.assert_array_equal(results_P, [1.0, 0.5, 0.0, NAN])
    accuracy = share(results_P)
    assert (accuracy.value, accuracy.num_groups) == (0.5, 3)
    assert (accuracy.low, accuracy.high) == wilson_interval(1.5, 3)
    np.testing.assert_array_equal(pair_outcomes([said(2.0, -1.0, "score")]), [1.5])
    np.testing.assert_array_equal(pair_results(np.array([-0.1, 0.0, 9.0]), "score"), [0.0, 0.5, 1.0])


def test_nothing_to_share_is_no_number() -> None:
    nothing = share(np.array([NAN]))
    assert (nothing.value, nothing.low, nothing.high, nothing.num_groups) == (None, 0.0, 1.0, 0)


def test_kappa_is_agreement_beyond_the_seat() -> None:
    always_first = [said(1.0, 1.0)] * 6
    assert verdict_accuracy(always_first).value == 0.5
    assert human_kappa(always_first).value == 0.0
    assert human_kappa([said(1.0, 0.0)] * 6).value == 1.0
    assert human_kappa([said(0.0, 1.0)] * 6).value == -1.0
    # Six of eight verdicts right and no lean to a seat: (3/4 - 1/2) / (1 - 1/2).
    mixed = [said(1.0, 0.0), said(1.0, 1.0), said(0.0, 0.0), said(1.0, 0.0)]
    assert (verdict_accuracy(mixed).value, human_kappa(mixed).value) == (0.75, 0.5)


def test_a_symmetric_verdict_stands_for_both_orders() -> None:
    once = [said(2.0, None, "score")] * 3 + [said(-2.0, None, "score")]
    twice = [said(2.0, -2.0, "score")] * 3 + [said(-2.0, 2.0, "score")]
    assert human_kappa(once, symmetric=True) == human_kappa(twice)
    assert human_kappa(once, symmetric=True).value == 0.5


def test_single_verdicts_weigh_by_pair() -> None:
    # One verdict of a pair is missing: 1, 1/2 and nothing.
    accuracy = verdict_accuracy([said(1.0, None), said(0.5, 0.5), said(None, None)])
    assert (accuracy.value, accuracy.num_groups) == (0.75, 2)


def test_brier_by_hand() -> None:
    # (1 - 0.8)^2 = 0.04 and (1 - 0.4)^2 = 0.36.
    assert brier_score(np.array([0.8, NAN, 0.4])).value == pytest.approx(0.2)


def test_calibration_by_hand() -> None:
    # Confidences 0.95, 0.95 (wrong), 0.75, 0.5 (level, right by half): bins 4, 4, 2, 0.
    error, bins = calibration_error(np.array([0.95, 0.05, 0.75, 0.5, NAN]))
    assert [(row["num_pairs"], row["accuracy"]) for row in bins] == [(1.0, 0.5), (1.0, 1.0), (2.0, 0.5)]
    assert [row["low"] for row in bins] == pytest.approx([0.5, 0.7, 0.9])
    # |0.5 - 0.5| / 4 + |0.75 - 1| / 4 + 2 |0.95 - 0.5| / 4
    assert error.value == pytest.approx((0.25 + 0.9) / 4)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_calibration_against_a_slow_oracle(values: list[float]) -> None:
    total = 0.0
    for b in range(5):
        held = [v for v in values if min(int((max(v, 1 - v) - 0.5) * 10), 4) == b]
        right = sum(1.0 if v > 0.5 else 0.5 if v == 0.5 else 0.0 for v in held)
        total += abs(sum(max(v, 1 - v) for v in held) - right)
    error, bins = calibration_error(np.array(values))
    assert error.value == pytest.approx(total / len(values), abs=1e-12)
    assert sum(row["num_pairs"] for row in bins) == len(values)
    assert 0.0 <= error.low <= error.high <= 1.0


def test_accuracy_by_margin_orders_by_size() -> None:
    rows = accuracy_by_margin(np.array([-0.1, 4.0, 0.2, NAN, 3.0]), num_quantiles=2)
    assert [(margin, accuracy.value) for margin, accuracy in rows] == [(0.2, 0.5), (4.0, 1.0)]
    # A judge's logits times a constant change the margins, and nothing else.
    scaled = accuracy_by_margin(100.0 * np.array([-0.1, 4.0, 0.2, NAN, 3.0]), num_quantiles=2)
    assert [accuracy for _, accuracy in scaled] == [accuracy for _, accuracy in rows]
    assert accuracy_by_margin(np.array([NAN])) == []
