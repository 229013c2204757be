"""Newton's method against bisection, also where the value's rounding hides the last steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rewards.aggregators.laplace import sigmoid, softplus
from rewards.aggregators.newton import maximise
from rewards.aggregators.votes import FloatArray


@pytest.mark.parametrize("weight", [1.0, 1e3, 1e5, 1e6, 3e6, 1e9, 1e12])
def test_one_way_verdicts_of_any_weight(weight: float) -> None:
    """weight log sigmoid(x) - x^2 / 8: its slope weight (1 - sigmoid(x)) - x / 4 falls, and is 0 once."""

    def value(x_1: FloatArray) -> float:
        # As aggregators do it: wins times strength less games times log-total, large numbers that nearly cancel.
        return float(weight * x_1[0] - weight * softplus(x_1)[0] - x_1[0] ** 2 / 8.0)

    def slopes(x_1: FloatArray) -> tuple[FloatArray, FloatArray]:
        p_1 = sigmoid(x_1)
        return weight * (1.0 - p_1) - x_1 / 4.0, np.diag(weight * p_1 * (1.0 - p_1) + 0.25)

    found_1, information_11 = maximise(value, slopes, np.zeros(1))
    expected, high = 0.0, 100.0
    for _ in range(60):
        middle = (expected + high) / 2.0
        expected, high = (middle, high) if weight / (1.0 + math.exp(middle)) > middle / 4.0 else (expected, middle)
    assert found_1[0] == pytest.approx(expected, rel=1e-4)
    assert information_11[0, 0] == pytest.approx(expected / 4.0 * (1.0 - expected / 4.0 / weight) + 0.25, rel=1e-3)


def test_no_maximum_is_an_error() -> None:
    with pytest.raises(ArithmeticError, match="no maximum"):
        maximise(lambda x_1: float(x_1[0]), lambda x_1: (np.ones(1), np.eye(1)), np.zeros(1))
