"""Thresholds of judge health: what rings, what only could, and what never could."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rewards.alarms import FIGURES, JudgeAlarm, judge_warnings, raised
from rewards.config import TournamentRewards
from rewards.errors import BatchRejected

HEALTHY = {
    "judge/order_flip_rate": 0.1,
    "judge/tie_rate": 0.1,
    "judge/failure_rate": 0.1,
    "judge/first_seat_rate": 0.5,
    "reward/length_correlation": 0.1,
    "reward/reliability": 0.9,
    "judge/circular_triad_rate": 0.05,
    "reward/style_bold_partial_correlation": 0.1,
    "judge/informativeness": 0.3,
    "judge/judge_alpha": 0.8,
    "judge/audit_agreement": 0.8,
    "judge/audit_kappa": 0.6,
    "judge/calibration_accuracy": 0.9,
}


@pytest.mark.parametrize(
    ("key", "limit", "metric", "within", "beyond"),
    [
        ("max_order_flip_rate", 0.25, "judge/order_flip_rate", [0.0, 0.25], [0.26, 1.0]),
        ("max_tie_rate", 0.25, "judge/tie_rate", [0.25], [0.26]),
        ("max_failure_rate", 0.0, "judge/failure_rate", [0.0], [0.01]),
        ("max_first_seat_bias", 0.25, "judge/first_seat_rate", [0.25, 0.75], [0.24, 0.76]),
        ("max_length_correlation", 0.5, "reward/length_correlation", [0.5, -0.5], [0.51, -0.51]),
        ("min_reliability", 0.5, "reward/reliability", [0.5, 1.0], [0.49, 0.0]),
        ("max_circular_triad_rate", 0.2, "judge/circular_triad_rate", [0.2], [0.21]),
        ("max_style_correlation", 0.5, "reward/style_headers_partial_correlation", [0.5, -0.5], [0.51, -0.51]),
        ("min_informativeness", 0.2, "judge/informativeness", [0.2], [0.19]),
        ("min_judge_alpha", 0.2, "judge/judge_alpha", [0.2], [0.19, -0.4]),
        ("min_audit_agreement", 0.7, "judge/audit_agreement", [0.7], [0.69]),
        ("min_audit_kappa", 0.2, "judge/audit_kappa", [0.2], [0.19, -0.5]),
        ("min_calibration_accuracy", 0.8, "judge/calibration_accuracy", [0.8], [0.79]),
    ],
)
def test_a_figure_rings_beyond_its_threshold(
    key: str, limit: float, metric: str, within: list[float], beyond: list[float]
) -> None:
    alarm = JudgeAlarm.model_validate({key: limit})
    for value in within:
        assert raised(alarm, HEALTHY | {metric: value}) == []
    for value in beyond:
        (phrase,) = raised(alarm, HEALTHY | {metric: value})
        assert metric in phrase
        assert key in phrase
    assert raised(alarm, {}) == []  # for want of verdicts


def test_every_threshold_is_tried_above() -> None:
    assert set(FIGURES) == set(JudgeAlarm.model_fields) - {"action", "ring_on"}


def test_an_alarm_on_the_interval_rings_only_where_all_of_it_is_beyond() -> None:
    sure = JudgeAlarm(max_first_seat_bias=0.1, min_audit_agreement=0.7, min_reliability=0.5, ring_on="interval")

    def lines(metric: str, low: float, value: float, high: float) -> list[str]:
        return raised(sure, HEALTHY | {metric: value, f"{metric}_low": low, f"{metric}_high": high})

    assert lines("judge/first_seat_rate", 0.55, 0.7, 0.8) == []
    assert lines("judge/first_seat_rate", 0.2, 0.5, 0.8) == [], "beyond on both sides is not sure"
    (phrase,) = lines("judge/first_seat_rate", 0.61, 0.7, 0.8)
    assert phrase == "judge/first_seat_rate 0.700 [0.610, 0.800] is over max_first_seat_bias = 0.1"
    assert lines("judge/first_seat_rate", 0.2, 0.3, 0.39) != []
    assert lines("judge/audit_agreement", 0.5, 0.6, 0.71) == []
    assert lines("judge/audit_agreement", 0.5, 0.6, 0.69) != []
    assert raised(sure, {"reward/reliability": 0.4}) != [], "a figure without an interval goes by its value"


def test_warnings_are_lines_and_a_stop_names_its_cure() -> None:
    early = JudgeAlarm(max_tie_rate=0.05, max_failure_rate=0.05)
    late = JudgeAlarm(max_tie_rate=0.5, action="stop")
    quiet = JudgeAlarm(max_order_flip_rate=0.5)
    assert judge_warnings([quiet, early, late], HEALTHY, 7) == [
        "step 7: judge alarm: judge/tie_rate 0.100 is over max_tie_rate = 0.05; "
        "judge/failure_rate 0.100 is over max_failure_rate = 0.05"
    ]
    with pytest.raises(
        BatchRejected, match=r"step 7: judge alarm: judge/tie_rate 0.600 .*rewards\.alarms\.1"
    ) as caught:
        judge_warnings([early, late], HEALTHY | {"judge/tie_rate": 0.6}, 7)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "alarm", "fault"),
    [
        ({}, {}, "needs a threshold"),
        ({}, {"action": "stop"}, "needs a threshold"),
        ({}, {"max_first_seat_bias": 0.6}, "less than or equal to 0.5"),
        ({"orders": "random"}, {"max_order_flip_rate": 0.2}, "never asked in both orders"),
        ({"symmetric": True}, {"max_order_flip_rate": 0.2}, "never asked in both orders"),
        ({"symmetric": True}, {"max_first_seat_bias": 0.2}, "cannot depend on the order"),
        ({"aggregator": {"kind": "elo"}}, {"min_reliability": 0.2}, "elo has no noise model"),
        ({}, {"min_calibration_accuracy": 0.8}, "name pairs with known answers in rewards.calibration"),
        ({}, {"min_judge_alpha": 0.8}, "one judge alone agrees with nobody"),
    ],
)
def test_an_alarm_that_could_never_ring_is_refused(keys: dict[str, Any], alarm: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        rewards(alarm, **keys)


def test_alarms_of_a_recipe() -> None:
    assert rewards({"max_tie_rate": 0.2}).alarms == (JudgeAlarm(max_tie_rate=0.2),)
    both = {"max_order_flip_rate": 0.2, "max_first_seat_bias": 0.1, "min_reliability": 0.1, "action": "stop"}
    assert rewards(both, orders="both_if_close").alarms[0].action == "stop"


def rewards(alarm: dict[str, Any], *, symmetric: bool = False, **keys: Any) -> TournamentRewards:
    judge = {"kind": "python", "target": "my:judge", "symmetric": symmetric}
    return TypeAdapter(TournamentRewards).validate_python({"judge": judge, "alarms": (alarm,), **keys})
