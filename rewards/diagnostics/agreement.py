"""Do several judges say the same of the same matches? Share, Cohen's kappa and Krippendorff's alpha, by groups.

An outcome is seen from the lower slot: 1 won, 0.5 tied, 0 lost, NaN where that judge gave no verdict. Groups are what
the bootstrap draws. Shapes: G groups, M matches of a group, J judges, C = 3 outcomes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from rewards.aggregators.votes import FloatArray
from rewards.diagnostics.bootstrap import NUM_RESAMPLES, Estimate, estimate, ratio
from rewards.types import Call, GroupScore, Match, Pairing

_OUTCOMES = np.array([0.0, 0.5, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What each judge said of each match, one array [M, J] per group."""

    judges: tuple[str, ...]
    by_group: tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two judges over the matches that both decided.

    share: the same outcome. kappa: Cohen's (1960), agreement beyond what the judges' own frequencies give by chance.
    """

    share: Estimate
    kappa: Estimate
    num_matches: int


def judge_outcomes(scores: Sequence[GroupScore]) -> Outcomes:
    """Outcomes of the judges that share the matches of these groups; a judge's two orders are merged by their mean."""
    names = sorted({call.judge for score in scores for match in score.matches for call in match.calls})
    groups: list[FloatArray] = []
    for score in scores:
        rows = [_by_judge(match, score) for match in score.matches]
        said = [[row.get(name, np.nan) for name in names] for row in rows]
        groups.append(np.array(said, dtype=np.float64).reshape(len(rows), len(names)))
    return Outcomes(tuple(names), tuple(groups))


def decided_pairs(score: GroupScore) -> dict[Pairing, float]:
    """What the judge decided, seen from the lower slot: 1 won, 0.5 level, 0 lost. Without what a router decided.

    A slate decides each of its pairs; what several slates say of one pair counts together.
    """
    decided: dict[Pairing, float] = {}
    for match in score.matches:
        asked = Match(match.pairing, tuple(call for call in match.calls if not call.is_routed))
        if (result := asked.result(score.kind or "hard")) is not None:
            decided[match.pairing] = result
    leads: defaultdict[Pairing, int] = defaultdict(int)
    for ranking in score.rankings:
        placed = sorted(zip(ranking.shown, ranking.places or (), strict=ranking.places is not None))
        for (a, place), (b, other) in combinations(placed, 2):
            leads[Pairing(a, b)] += (place < other) - (place > other)
    return decided | {pairing: 0.5 + ((lead > 0) - (lead < 0)) / 2.0 for pairing, lead in leads.items()}


def audit_outcomes(runs: Mapping[str, Sequence[GroupScore]]) -> Outcomes:
    """Outcomes of several judges, each of which judged the same groups on its own, by the judge's name.

    Matches meet by their two rollouts (and round); one that a judge did not play is NaN for it.

    Raises:
        ValueError: runs over different numbers of groups.
    """
    groups: list[FloatArray] = []
    for scores in zip(*runs.values(), strict=True):
        said = [{match.pairing: _outcome(match, score) for match in score.matches} for score in scores]
        pairings = sorted(set().union(*said))
        groups.append(np.array([[one.get(p, np.nan) for one in said] for p in pairings]).reshape(-1, len(runs)))
    return Outcomes(tuple(runs), tuple(groups))


def pairwise_agreement(
    outcomes: Outcomes, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> dict[tuple[str, str], Agreement]:
    """Share and kappa of every two judges, by their names in order.

    Kappa is low where one outcome is nearly always the right one, whatever the share: read the two together.
    """
    table: dict[tuple[str, str], Agreement] = {}
    for one, other in combinations(range(len(outcomes.judges)), 2):
        counts_GCC = np.zeros((len(outcomes.by_group), 3, 3))
        for counts_CC, said_MJ in zip(counts_GCC, outcomes.by_group, strict=True):
            both_M2 = said_MJ[:, [one, other]]
            codes_M2 = (2.0 * both_M2[~np.isnan(both_M2).any(-1)]).astype(np.int64)
            np.add.at(counts_CC, (codes_M2[:, 0], codes_M2[:, 1]), 1.0)
        agreed_G = np.trace(counts_GCC, axis1=-2, axis2=-1)
        sums_G2 = np.stack([agreed_G, counts_GCC.sum((-2, -1))], axis=-1)
        table[outcomes.judges[one], outcomes.judges[other]] = Agreement(
            share=estimate(sums_G2, ratio, bounds=(0.0, 1.0), seed=seed, num_resamples=num_resamples),
            kappa=estimate(
                counts_GCC.reshape(-1, 9), _kappa, bounds=(-1.0, 1.0), seed=seed, num_resamples=num_resamples
            ),
            num_matches=int(counts_GCC.sum()),
        )
    return table


def krippendorff_alpha(
    outcomes: Outcomes,
    *,
    distance: Literal["nominal", "interval"] = "nominal",
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Agreement of all judges at once, 1 - observed / expected disagreement (Krippendorff 2004); verdicts may miss.

    1 where all agree, 0 where they agree as chance does; None where every judge always says one and the same.

    Args:
        distance: "nominal", any two outcomes are as far apart; "interval", a win is twice as far from a loss as a tie.
    """
    gaps_CC = _OUTCOMES[:, None] - _OUTCOMES[None, :]
    distance_CC = (gaps_CC != 0.0).astype(np.float64) if distance == "nominal" else gaps_CC**2

    def alpha(sums: FloatArray) -> FloatArray:
        pairs_CC = sums.reshape(*sums.shape[:-1], 3, 3)
        totals_C = pairs_CC.sum(-1)
        number = totals_C.sum(-1)
        observed = (pairs_CC * distance_CC).sum((-2, -1))
        expected = ((totals_C @ distance_CC) * totals_C).sum(-1)
        varies = expected > 0.0
        return np.where(varies, 1.0 - (number - 1.0) * observed / np.where(varies, expected, 1.0), np.nan)

    sums_G9 = np.array([_coincidences(said_MJ) for said_MJ in outcomes.by_group], dtype=np.float64).reshape(-1, 9)
    return estimate(sums_G9, alpha, bounds=(-1.0, 1.0), seed=seed, num_resamples=num_resamples)


def _coincidences(said_MJ: FloatArray) -> FloatArray:
    """Ordered pairs of outcomes of different judges about the same match, each match weighing its number of judges."""
    counts_MC = (said_MJ[:, :, None] == _OUTCOMES).sum(1).astype(np.float64)
    judges_M = counts_MC.sum(-1)
    counts_MC, judges_M = counts_MC[judges_M >= 2], judges_M[judges_M >= 2]
    weighted_MC = counts_MC / (judges_M[:, None] - 1.0)
    return weighted_MC.T @ counts_MC - np.diag(weighted_MC.sum(0))


def _kappa(sums: FloatArray) -> FloatArray:
    counts_CC = sums.reshape(*sums.shape[:-1], 3, 3)
    total = counts_CC.sum((-2, -1))
    total = np.where(total > 0.0, total, 1.0)
    share = np.trace(counts_CC, axis1=-2, axis2=-1) / total
    by_chance = (counts_CC.sum(-1) * counts_CC.sum(-2)).sum(-1) / total**2
    can_differ = by_chance < 1.0 - 1e-12
    return np.where(can_differ, (share - by_chance) / np.where(can_differ, 1.0 - by_chance, 1.0), np.nan)


def _by_judge(match: Match, score: GroupScore) -> dict[str, float]:
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    for call in match.calls:
        calls[call.judge].append(call)
    return {name: _outcome(Match(match.pairing, tuple(asked)), score) for name, asked in calls.items()}


def _outcome(match: Match, score: GroupScore) -> float:
    result = match.result(score.kind) if score.kind is not None else None
    return np.nan if result is None else result
