from __future__ import annotations

import pytest

from rewards.rubrics.win_rates import criterion_win_rates
from rewards.types import Call, Match, Pairing, Verdict


def match(a: int, b: int, *criteria: tuple[int, dict[str, float]]) -> Match:
    """criteria: who was shown first, and what the verdict says of each criterion from there."""
    calls = tuple(Call(first, a + b - first, Verdict(0.0, criteria=said), "j") for first, said in criteria)
    return Match(Pairing(a, b), calls)


def test_by_hand() -> None:
    matches = [
        match(0, 1, (0, {"facts": 1.0, "depth": 0.0}), (1, {"facts": 0.5, "depth": -0.5})),
        match(0, 2, (2, {"facts": -0.5})),
    ]
    # 0 against 1: facts won once and lost once, 1/2; depth level and won, 3/4. 0 against 2: facts won.
    assert criterion_win_rates(matches, 4) == {
        "depth": pytest.approx([0.75, 0.25, None, None]),
        "facts": pytest.approx([0.75, 0.5, 0.0, None]),
    }


def test_judges_without_criteria_and_failed_calls() -> None:
    assert criterion_win_rates([Match(Pairing(0, 1), (Call(0, 1, Verdict(1.0), "j"),))], 2) == {}
    assert criterion_win_rates([Match(Pairing(0, 1), (Call(0, 1, Verdict(None, "timeout"), "j"),))], 2) == {}
