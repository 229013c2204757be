"""Is a step's judge still fit to learn from? Its health figures against the thresholds of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewards.errors import RunStopped
from rewards.strict import StrictModel

Share = Annotated[float, Field(ge=0, le=1)]


class JudgeAlarm(StrictModel):
    """Thresholds for one step's training groups. A figure that a step has not, for want of verdicts, raises none."""

    max_order_flip_rate: Share | None = None
    """Matches whose two orders name different winners; needs both orders."""
    max_tie_rate: Share | None = None
    """Verdicts that name no winner."""
    max_failure_rate: Share | None = None
    """Calls without a verdict."""
    max_first_seat_bias: Annotated[float, Field(ge=0, le=0.5)] | None = None
    """How far the share of wins of whoever is shown first may be from one half, either way."""
    max_length_correlation: Share | None = None
    """Of reward and length inside groups, either way."""
    min_reliability: Share | None = None
    """Mean over groups; of aggregators with a noise model."""
    action: Literal["warn", "stop"] = "warn"
    """`warn`: a line on the screen, and `judge/num_alarms`. `stop`: the run stops before it learns from the step."""

    @model_validator(mode="after")
    def _has_a_threshold(self) -> Self:
        if all(getattr(self, key) is None for key in FIGURES):
            raise ValueError(f"an alarm needs a threshold, one or more of {', '.join(FIGURES)}")
        return self


FIGURES: Mapping[str, tuple[str, float]] = {
    "max_order_flip_rate": ("judge/order_flip_rate", 0.0),
    "max_tie_rate": ("judge/tie_rate", 0.0),
    "max_failure_rate": ("judge/failure_rate", 0.0),
    "max_first_seat_bias": ("judge/first_seat_rate", 0.5),
    "max_length_correlation": ("reward/length_correlation", 0.0),
    "min_reliability": ("reward/reliability", 0.0),
}
"""The metric that a threshold is about, and the value from which its distance is taken."""


def raised(alarm: JudgeAlarm, metrics: Mapping[str, float]) -> list[str]:
    """What is beyond this alarm's thresholds, a phrase per figure; a figure at its threshold is within."""
    found: list[str] = []
    for key, (metric, centre) in FIGURES.items():
        limit, value = getattr(alarm, key), metrics.get(metric)
        if limit is None or value is None:
            continue
        if key == "min_reliability":
            beyond, word = value < limit, "under"
        else:
            beyond, word = abs(value - centre) > limit, "over"
        if beyond:
            found.append(f"{metric} {value:.3f} is {word} {key} = {limit:g}")
    return found


def judge_warnings(alarms: Iterable[JudgeAlarm], metrics: Mapping[str, float], step: int) -> Sequence[str]:
    """A line per alarm that is raised and only warns.

    Raises:
        RunStopped: an alarm with `action: stop` is raised.
    """
    lines: list[str] = []
    for number, alarm in enumerate(alarms):
        if not (found := raised(alarm, metrics)):
            continue
        if alarm.action == "stop":
            raise RunStopped(
                f"step {step}: judge alarm: {'; '.join(found)}; nothing was learned from this step. Look at its "
                f"matches, then resume; with another threshold in rewards.alarms.{number} its groups are learned from"
            )
        lines.append(f"step {step}: judge alarm: {'; '.join(found)}")
    return lines
