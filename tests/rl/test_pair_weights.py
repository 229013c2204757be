from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rewards.types import Call, GroupScore, Match, Pairing, Ranking, Slate, Verdict, VerdictKind
from rl.pair_weights import pair_wins


def match(a: int, b: int, *values: float | None) -> Match:
    """Calls in both orders by turns; values are seen from the one shown first."""
    calls = [
        Call(*((a, b) if n % 2 == 0 else (b, a)), Verdict(value, failure=None if value is not None else "timeout"), "j")
        for n, value in enumerate(values)
    ]
    return Match(Pairing(a, b), tuple(calls))


def score_of(rewards: Sequence[float | None], *matches: Match, kind: VerdictKind = "probability") -> GroupScore:
    return GroupScore(list(rewards), matches=matches, kind=kind)


def test_verdicts_of_both_orders_are_averaged_and_a_failed_match_is_missing() -> None:
    score = score_of([0.9, 0.5, 0.1], match(0, 1, 0.8, 0.4), match(1, 2, None, None), match(0, 2, 1.0))
    np.testing.assert_allclose(pair_wins(score, [0, 1, 2]), [[0, 0.7, 1], [0.3, 0, 0], [0, 0, 0]])


def test_repeated_meetings_are_averaged() -> None:
    score = score_of([0.5, 0.5], match(0, 1, 1.0), Match(Pairing(0, 1, 1), match(0, 1, 0.0).calls))
    np.testing.assert_allclose(pair_wins(score, [0, 1]), [[0, 0.5], [0.5, 0]])


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_scores_say_who_is_better_not_by_how_much(factor: float) -> None:
    score = score_of([1.0, 0.0, 0.0], match(0, 1, 0.3 * factor), match(1, 2, 0.0), kind="score")
    np.testing.assert_allclose(pair_wins(score, [0, 1, 2]), [[0, 1, 0], [0, 0, 0.5], [0, 0.5, 0]])


def test_without_a_tournament_the_higher_reward_wins() -> None:
    np.testing.assert_allclose(
        pair_wins(GroupScore([1.0, 0.0, None, 1.0]), [0, 1, 3]), [[0, 1, 0], [0, 0, 0], [0, 1, 0]]
    )


def test_who_failed_a_gate_loses_to_all_who_did_not() -> None:
    score = GroupScore([0.6, 0.4, 0.0], matches=(match(0, 1, 0.9),), kind="probability", gate_failures={"length": (2,)})
    np.testing.assert_allclose(pair_wins(score, [0, 1, 2]), [[0, 0.9, 1], [0.1, 0, 1], [0, 0, 0]])


def test_rankings_are_pairs() -> None:
    score = GroupScore(
        [1.0, 0.5, 0.0],
        kind="hard",
        rankings=(
            Ranking(Slate((0, 1, 2)), (2, 0, 1), (2, 0, 0), "j"),
            Ranking(Slate((0, 1, 2), 1), (0, 1, 2), (0, 1, 2), "j"),
            Ranking(Slate((0, 1), 2), (0, 1), None, "j", failure="timeout"),
        ),
    )
    np.testing.assert_allclose(pair_wins(score, [0, 1, 2]), [[0, 0.75, 1], [0.25, 0, 1], [0, 0, 0]])
