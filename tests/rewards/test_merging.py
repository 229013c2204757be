"""How two orders are scored, and that the log is left as it was."""

from __future__ import annotations

import numpy as np
import pytest

from rewards import rank_groups
from rewards.aggregators.votes import verdict_table
from rewards.merging import merged_match
from rewards.types import Call, Match, MatchLog, Merge, Pairing, Verdict, VerdictKind


def match(*calls: tuple[int, float | None], judge: str = "j") -> Match:
    """Calls by who was shown first, value seen from there."""
    made = [
        Call(first, 1 - first, Verdict(value, None if value is not None else "timeout"), judge)
        for first, value in calls
    ]
    return Match(Pairing(0, 1), tuple(made))


def values(match: Match) -> list[float | None]:
    return [call.verdict.value for call in match.calls]


@pytest.mark.parametrize(
    ("kind", "calls", "scored"),
    [
        ("hard", [(0, 1.0), (1, 0.0)], [1.0, 0.0]),  # 0 wins both
        ("hard", [(0, 1.0), (1, 1.0)], [0.5, 0.5]),  # the first seat wins both
        ("hard", [(0, 1.0), (1, 0.5)], [0.5, 0.5]),  # a win and a tie do not agree
        ("hard", [(0, 1.0), (1, None)], [1.0, None]),  # one order alone is one vote
        ("hard", [(0, None), (1, None)], [None, None]),
        ("probability", [(0, 0.9), (1, 0.4)], [0.9, 0.4]),
        ("probability", [(0, 0.9), (1, 0.6)], [0.5, 0.5]),
        ("score", [(0, 3.0), (1, -0.1)], [3.0, -0.1]),
        ("score", [(0, 3.0), (1, 0.1)], [0.0, 0.0]),
    ],
)
def test_agree_else_tie_by_hand(
    kind: VerdictKind, calls: list[tuple[int, float | None]], scored: list[float | None]
) -> None:
    played = match(*calls)
    assert values(merged_match(played, kind, "agree_else_tie")) == scored
    assert values(merged_match(played, kind, "sum")) == [value for _, value in calls]
    table = verdict_table(MatchLog(2, kind, (played,), merge="agree_else_tie"))
    assert table.value_V.tolist() == [value for value in scored if value is not None]
    assert table.as_said.value_V.tolist() == [value for _, value in calls if value is not None]


def test_each_judge_of_a_match_is_merged_for_itself() -> None:
    one, other = match((0, 1.0), (1, 1.0), judge="flips"), match((0, 1.0), (1, 0.0), judge="holds")
    both = Match(Pairing(0, 1), one.calls + other.calls)
    assert values(merged_match(both, "hard", "agree_else_tie")) == [0.5, 0.5, 1.0, 0.0]


def test_a_result_is_the_weighted_mean_of_its_calls() -> None:
    """(3 x 1 + 1 x 0) / 4 = 0.75."""
    heavy, light = Call(0, 1, Verdict(1.0), "h", 3.0), Call(1, 0, Verdict(1.0), "l", 1.0)
    assert Match(Pairing(0, 1), (heavy, light)).outcome("hard") == 0.75
    assert Match(Pairing(0, 1), (light,)).outcome("hard") == 0.0
    assert Match(Pairing(0, 1), (Call(0, 1, Verdict(1.0), "h", 0.0),)).outcome("hard") is None


@pytest.mark.parametrize("merge", ["sum", "agree_else_tie"])
@pytest.mark.parametrize("kind", ["probability", "score"])
def test_a_judge_that_throws_a_coin_is_not_believed(kind: VerdictKind, merge: Merge) -> None:
    """Ties in the place of orders that disagree must not hide how far apart they were."""
    rng = np.random.default_rng(0)
    low, high = (0.1, 0.9) if kind == "probability" else (-1.0, 1.0)
    scores = rank_groups([8] * 24, lambda group, i, j: float(rng.choice([low, high])), verdict=kind, merge=merge)
    reliability = np.mean([score.reliability for score in scores if score.reliability is not None])
    # Scores are not shrunk: a group's share of signal is cut at 0 from below, so its mean is above 0.
    assert reliability < (0.1 if kind == "probability" else 0.25)
