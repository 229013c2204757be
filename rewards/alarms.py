"""Is a step's judge still fit to learn from? Its health figures against the thresholds of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rewards.errors import BatchRejected
from rewards.strict import StrictModel

Share = Annotated[float, Field(ge=0, le=1)]
Correlation = Annotated[float, Field(ge=-1, le=1)]


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
    max_circular_triad_rate: Share | None = None
    """Decided triples that go round; coin flips give 0.25."""
    max_length_correlation: Share | None = None
    """Of reward and length inside groups, either way."""
    max_style_correlation: Share | None = None
    """Of reward and headers, list items, bold or code blocks, length and each other held still; the largest of them,
    either way."""
    min_informativeness: Share | None = None
    """Pairs of rollouts with different verdicts against a common opponent; a complete order gives 0.33, ties 0."""
    min_judge_alpha: Correlation | None = None
    """Krippendorff's, over the members of a panel: 1 where all agree, 0 where they agree as chance does."""
    min_audit_agreement: Share | None = None
    """Pairs of which the second judge says the same; needs `evaluation.audit_share`."""
    min_audit_kappa: Correlation | None = None
    """The same beyond chance (Cohen)."""
    min_calibration_accuracy: Share | None = None
    """Right verdicts on the pairs of `rewards.calibration`, a tie being half of one."""
    min_reliability: Share | None = None
    """Mean over groups; of aggregators with a noise model."""
    ring_on: Literal["value", "interval"] = "value"
    """`interval`: only where the whole 95 % interval is beyond the threshold, so that a small step rings less often by
    chance. A figure that has no interval (the reliability) goes by its value."""
    action: Literal["warn", "stop"] = "warn"
    """`warn`: a line on the screen, and `judge/num_alarms`. `stop`: the run stops before it learns from the step.

    The step's groups are set aside then, and a resumed run samples and judges it again. Verdicts of a judge whose
    settings have not changed come from the cache, so it rings again where equal seeds give equal rollouts. Renaming
    `groups/step_N.rejected.parquet` back learns from those groups after all, with another threshold."""

    @model_validator(mode="after")
    def _has_a_threshold(self) -> Self:
        if all(getattr(self, key) is None for key in FIGURES):
            raise ValueError(f"an alarm needs a threshold, one or more of {', '.join(FIGURES)}")
        return self

    @property
    def needs_audit(self) -> bool:
        return self.min_audit_agreement is not None or self.min_audit_kappa is not None


@dataclass(frozen=True, slots=True)
class Figure:
    """What a threshold is about. centre: the value from which a `max_` measures the distance."""

    metrics: tuple[str, ...]
    centre: float = 0.0


FIGURES: Mapping[str, Figure] = {
    "max_order_flip_rate": Figure(("judge/order_flip_rate",)),
    "max_tie_rate": Figure(("judge/tie_rate",)),
    "max_failure_rate": Figure(("judge/failure_rate",)),
    "max_first_seat_bias": Figure(("judge/first_seat_rate",), 0.5),
    "max_circular_triad_rate": Figure(("judge/circular_triad_rate",)),
    "max_length_correlation": Figure(("reward/length_correlation",)),
    "max_style_correlation": Figure(
        tuple(f"reward/style_{name}_partial_correlation" for name in ("headers", "list_items", "bold", "code_blocks"))
    ),
    "min_informativeness": Figure(("judge/informativeness",)),
    "min_judge_alpha": Figure(("judge/judge_alpha",)),
    "min_audit_agreement": Figure(("judge/audit_agreement",)),
    "min_audit_kappa": Figure(("judge/audit_kappa",)),
    "min_calibration_accuracy": Figure(("judge/calibration_accuracy",)),
    "min_reliability": Figure(("reward/reliability",)),
}
"""The metrics that a threshold is about; one of them beyond it is enough."""


def raised(alarm: JudgeAlarm, metrics: Mapping[str, float]) -> list[str]:
    """What is beyond this alarm's thresholds, a phrase per figure; a figure at its threshold is within."""
    found: list[str] = []
    for key, figure in FIGURES.items():
        if (limit := getattr(alarm, key)) is None:
            continue
        for metric in figure.metrics:
            if (value := metrics.get(metric)) is None:
                continue
            ends = [value]
            if alarm.ring_on == "interval":
                ends = [metrics.get(f"{metric}_low", value), metrics.get(f"{metric}_high", value)]
            if not _beyond(key, ends, limit, figure.centre):
                continue
            word = "under" if key.startswith("min_") else "over"
            interval = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if len(ends) == 2 else ""
            found.append(f"{metric} {value:.3f}{interval} is {word} {key} = {limit:g}")
    return found


def _beyond(key: str, ends: Sequence[float], limit: float, centre: float) -> bool:
    """Whether all of `ends` are beyond, and on one side."""
    if key.startswith("min_"):
        return all(end < limit for end in ends)
    return all(end - centre > limit for end in ends) or all(centre - end > limit for end in ends)


def judge_warnings(alarms: Iterable[JudgeAlarm], metrics: Mapping[str, float], step: int) -> Sequence[str]:
    """A line per alarm that is raised and only warns.

    Raises:
        BatchRejected: an alarm with `action: stop` is raised.
    """
    lines: list[str] = []
    for number, alarm in enumerate(alarms):
        if not (found := raised(alarm, metrics)):
            continue
        if alarm.action == "stop":
            raise BatchRejected(
                f"step {step}: judge alarm: {'; '.join(found)}; nothing was learned from this step. Look at its "
                f"matches, mend the judge or set another threshold in rewards.alarms.{number}, then resume: the step "
                "is sampled and judged again"
            )
        lines.append(f"step {step}: judge alarm: {'; '.join(found)}")
    return lines
