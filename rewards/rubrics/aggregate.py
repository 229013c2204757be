"""From what was said of each criterion to one number; outside the model, the same for every reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rewards.rubric_config import Criterion, Part


@dataclass(frozen=True, slots=True)
class Judged:
    """value: in [-1, 1], positive if the answer shown first is better on this criterion; steps over scale."""

    criterion: Criterion
    value: float
    evidence: str = ""
    reason: str = ""


def aggregate(judged: Sequence[Judged], part_weights: Mapping[Part, float]) -> float:
    """The score of the pair, seen from the answer shown first: in [-1, 1], or in [-2, -1) and (1, 2] after a veto.

    Without a veto: sum_c w_c v_c / sum_c w_c over all criteria c that weigh, those that found no difference included.
    OpenRS (arXiv 2602.14069) leaves ties out of the denominator, so that one small win among ties counts like a sweep;
    ours is fixed. With part weights W_p this is taken part by part, and the score is sum_p W_p S_p / sum_p W_p
    (ArenaRL, arXiv 2601.06487, section on its judge).
    Veto (OpenRS): where any fatal criterion tells the two apart, all else is ignored. F = the mean of the fatal values;
    the score is F + sign(F), so that it is beyond all scores without a veto; fatal criteria that cancel out are a tie.
    """
    fatal = [one.value for one in judged if one.criterion.type == "fatal"]
    if any(fatal):
        mean = sum(fatal) / len(fatal)
        return mean + (mean > 0.0) - (mean < 0.0)
    weighing = [one for one in judged if one.criterion.type != "fatal"]
    if not part_weights:
        return _weighted_mean([(one.criterion.weighs, one.value) for one in weighing])
    return _weighted_mean(
        [
            (weight, _weighted_mean([(o.criterion.weighs, o.value) for o in weighing if o.criterion.part == part]))
            for part, weight in part_weights.items()
        ]
    )


def by_criterion(judged: Sequence[Judged], known: frozenset[str]) -> dict[str, float]:
    """Values by criterion id; criteria that are not `known` from pair to pair are averaged under their type's name."""
    named: dict[str, list[float]] = {}
    for one in judged:
        criterion = one.criterion
        named.setdefault(criterion.id if criterion.id in known else criterion.type, []).append(one.value)
    return {name: sum(values) / len(values) for name, values in named.items()}


def _weighted_mean(weighted: Sequence[tuple[float, float]]) -> float:
    total = sum(weight for weight, _ in weighted)
    return sum(weight * value for weight, value in weighted) / total if total else 0.0
