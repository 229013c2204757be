"""Newton's method with step halving, for smooth functions of up to a thousand parameters or so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rewards.aggregators.votes import FloatArray

_MAX_STEPS = 200
_MAX_HALVINGS = 40
_TOLERANCE = 1e-9


def maximise(
    value: Callable[[FloatArray], float],
    slopes: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    start_M: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """A maximum near the start, the only one where the function is concave, and the information there.

    Args:
        value: the function. slopes: its gradient_M and minus its Hessian_MM (the information), positive definite.

    Raises:
        ArithmeticError: no convergence.
    """
    x_M, best = start_M, value(start_M)
    for _ in range(_MAX_STEPS):
        gradient_M, information_MM = slopes(x_M)
        step_M = np.linalg.solve(information_MM, gradient_M)
        if np.abs(step_M).max() < _TOLERANCE:
            return x_M, information_MM
        proposed = value(x_M + step_M)
        for _ in range(_MAX_HALVINGS):
            if proposed >= best - 1e-12 * (1.0 + abs(best)):
                break
            step_M = step_M / 2.0
            proposed = value(x_M + step_M)
        x_M = x_M + step_M
        if proposed <= best:
            return x_M, information_MM  # A step uphill must raise the value: rounding hides what is left of the way.
        best = proposed
    raise ArithmeticError(f"no maximum within {_MAX_STEPS} Newton steps")
