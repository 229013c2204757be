"""How far each judge of a panel can be trusted, from who agrees with whom and from pairs whose answer is known (ours).

    right_m, all_m   decayed counts of a member's verdicts that are known to be right, and of all that are known
    r_m            = (prior + right_m) / (prior + all_m)
    weight_m       ~ base_m * max(floor, 2 r_m - 1), scaled so that the panel's total weight stays that of the recipe

Known is a match that the others, without this member, decide: the sign of their Bradley-Terry strengths over the
group, their verdicts at today's weights. A tie of either is not known. So is a calibration pair's answer. A coin is
right half the time, and 2 r - 1 leaves it nothing but the floor. After Fortytwo's reputation (arXiv 2510.24801, whose
formulas are not public).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

from rewards.aggregator_config import BradleyTerry
from rewards.aggregators.bradley_terry import BradleyTerryAggregator
from rewards.judge_config import Reputation
from rewards.types import MatchLog, Strengths


@dataclass(frozen=True, slots=True)
class Standing:
    """Decayed counts of a member's known verdicts."""

    right: float = 0.0
    all: float = 0.0


def learned(
    standings: Mapping[str, Standing],
    logs: Sequence[MatchLog],
    answers: Sequence[tuple[str, bool]],
    names: Sequence[str],
    config: Reputation,
) -> dict[str, Standing]:
    """Standings after a batch.

    Args:
        answers: name and whether it was right, per verdict on a calibration pair.
    """
    after: dict[str, Standing] = {}
    for name in names:
        known = [right for member, right in answers if member == name]
        known += [lean > 0.0 for lean in agreement(logs, name)]
        before = standings.get(name, Standing())
        after[name] = Standing(config.decay * before.right + sum(known), config.decay * before.all + len(known))
    return after


def agreement(logs: Sequence[MatchLog], name: str) -> Iterator[float]:
    """Per pair that both decide: > 0 where the judge agrees with the others' consensus on it, < 0 where it does not."""
    others = [
        replace(
            log,
            matches=tuple(
                replace(match, calls=tuple(call for call in match.calls if call.judge != name)) for match in log.matches
            ),
            rankings=tuple(ranking for ranking in log.rankings if ranking.judge != name),
            merge="sum",
        )
        for log in logs
    ]
    consensus, _ = BradleyTerryAggregator(BradleyTerry(kind="bradley_terry")).fit(others)
    for log, strengths in zip(logs, consensus, strict=True):
        for a, b, lean in own_leans(log, name):
            gap = _gap(strengths, a, b)
            if lean * gap != 0.0:
                yield lean * gap


def own_leans(log: MatchLog, name: str) -> Iterator[tuple[int, int, float]]:
    """Pairs (a, b) that a judge spoke about, and how it leans: > 0 to a. Its orders of one match are merged."""
    level = 0.0 if log.kind == "score" else 0.5
    for match in log.matches:
        own = replace(match, calls=tuple(call for call in match.calls if call.judge == name)).outcome(log.kind)
        if own is not None:
            yield match.pairing.a, match.pairing.b, own - level
    for ranking in log.rankings:
        if ranking.judge == name and ranking.places is not None:
            for (a, place), (b, other) in combinations(zip(ranking.shown, ranking.places, strict=True), 2):
                yield a, b, float(other - place)


def reputed_weights(
    base: Mapping[str, float], standings: Mapping[str, Standing], config: Reputation
) -> dict[str, float]:
    """What a verdict of each member counts; the sum is that of `base`."""
    raw = {}
    for name, weight in base.items():
        standing = standings.get(name, Standing())
        rate = (config.prior_verdicts + standing.right) / (config.prior_verdicts + standing.all)
        raw[name] = weight * max(config.floor, 2.0 * rate - 1.0)
    scale = sum(base.values()) / sum(raw.values())
    return {name: scale * weight for name, weight in raw.items()}


def standings_to_json(standings: Mapping[str, Standing]) -> dict[str, Any]:
    return {name: asdict(standing) for name, standing in standings.items()}


def standings_from_json(state: Mapping[str, Any]) -> dict[str, Standing]:
    return {name: Standing(**counts) for name, counts in state.items()}


def _gap(strengths: Strengths, a: int, b: int) -> float:
    theta = strengths.strengths
    if theta is None or theta[a] is None or theta[b] is None:
        return 0.0
    gap = theta[a] - theta[b]  # pyright: ignore[reportOperatorIssue, reportOptionalOperand]
    return gap if abs(gap) > 1e-6 else 0.0
