"""How two orders are scored, and that the log is left as it was."""

from __future__ import annotations

import pytest

from rewards.merging import merged_log, merged_match
from rewards.types import Call, Match, MatchLog, Pairing, Verdict, VerdictKind


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
    log = MatchLog(2, kind, (played,))
    assert values(merged_log(log, "agree_else_tie").matches[0]) == scored
    assert values(log.matches[0]) == [value for _, value in calls]


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
