"""Rates over match logs."""

from __future__ import annotations

import pytest

from rewards.health import (
    Rate,
    failure_rate,
    first_seat_rate,
    judge_health,
    order_flip_rate,
    tie_rate,
)
from rewards.types import Call, GroupScore, Match, Pairing, Ranking, Slate, Verdict, VerdictKind
from tests.rewards.logs import Vote, log_of


def score_of(votes: list[Vote], kind: VerdictKind = "hard") -> GroupScore:
    log = log_of(votes, 8, kind)
    failed = sum(value is None for _, _, value in votes)
    return GroupScore(
        rewards=[None] * 8,
        matches=log.matches,
        kind=kind,
        num_calls=len(votes),
        num_failed=failed,
        failures={"timeout": failed} if failed else {},
    )


VOTES: list[Vote] = [
    (0, 1, 1.0), (1, 0, 0.0),  # 0 wins both
    (0, 2, 1.0), (2, 0, 1.0),  # the first seat wins both: a flip
    (0, 3, 0.0), (3, 0, 0.0),  # the second seat wins both: a flip
    (1, 2, 0.5), (2, 1, 1.0),  # a tie names nobody
    (1, 3, 1.0), (3, 1, None),  # one order failed
    (2, 3, None), (3, 2, None),
]  # fmt: skip


def test_rates_by_hand() -> None:
    scores = [score_of(VOTES)]
    assert order_flip_rate(scores) == Rate(2, 4)
    assert tie_rate(scores) == Rate(1, 9)
    assert first_seat_rate(scores) == Rate(5, 8)
    assert failure_rate(scores) == Rate(3, 12)


def test_scores_are_level_at_zero() -> None:
    scores = [score_of([(0, 1, 0.4), (1, 0, 0.2), (0, 2, -3.0), (2, 0, 3.0), (1, 2, 0.0)], "score")]
    assert order_flip_rate(scores) == Rate(1, 2)
    assert tie_rate(scores) == Rate(1, 5)
    assert first_seat_rate(scores) == Rate(3, 4)


def test_judge_health_pools_groups_and_leaves_out_what_is_not_there() -> None:
    health = judge_health([score_of(VOTES), score_of(VOTES)])
    assert health == {
        "num_calls": 24.0,
        "order_flip_rate": 0.5,
        "tie_rate": pytest.approx(1 / 9),
        "first_seat_rate": 0.625,
        "failure_rate": 0.25,
        "num_failed_timeout": 6.0,
    }
    assert judge_health([]) == {"num_calls": 0.0}


def test_intervals() -> None:
    health = judge_health([score_of(VOTES)], intervals=True)
    assert health["tie_rate_low"] < health["tie_rate"] < health["tie_rate_high"]
    # Wilson for 10 of 20 at 95 %: 0.299 to 0.701.
    assert Rate(10, 20).interval() == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert Rate(0, 10).interval() == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert Rate(0, 0).interval() == (0.0, 1.0)
    assert Rate(0, 0).value is None


def test_each_judge_of_a_match_counts_for_itself() -> None:
    # Judge a flips, judge b does not; mixed up by seat they would be one match of one judge.
    calls = tuple(
        Call(first, 1 - first, Verdict(value), judge)
        for judge, first, value in (("a", 0, 1.0), ("a", 1, 1.0), ("b", 0, 1.0), ("b", 1, 0.0))
    )
    score = GroupScore(rewards=[None] * 2, matches=(Match(Pairing(0, 1), calls),), kind="hard")
    assert order_flip_rate([score]) == Rate(1, 2)


def test_rankings_count_by_their_pairs() -> None:
    slate = Slate((0, 1, 2))

    def ranking(shown: tuple[int, ...], places: tuple[int, ...] | None, judge: str = "a", number: int = 0) -> Ranking:
        return Ranking(Slate(slate.members, number), shown, places, judge, None if places else "timeout")

    rankings = (
        ranking((0, 1, 2), (0, 1, 2)),  # 0 > 1 > 2
        ranking((2, 1, 0), (2, 0, 0)),  # 0 and 1 level, 2 last: a tie names nobody, and no pair flips
        ranking((0, 1, 2), (0, 1, 2), "b"),
        ranking((2, 1, 0), (0, 1, 2), "b"),  # turned round: three flips
        ranking((0, 1, 2), (2, 1, 0), number=1),  # another round's: the other order failed
        ranking((2, 1, 0), None, number=1),
    )
    score = GroupScore(rewards=[None] * 3, kind="hard", rankings=rankings, num_calls=6, num_failed=1)
    assert order_flip_rate([score]) == Rate(3, 6)
    assert tie_rate([score]) == Rate(1, 15)
    # Shown first and better, call by call: 3, 0 of 2, 3, 3, 0.
    assert first_seat_rate([score]) == Rate(9, 14)
    assert failure_rate([score]) == Rate(1, 6)


def test_two_orders_that_are_no_reversal_flip_by_the_pairs_that_turned() -> None:
    rankings = tuple(
        Ranking(Slate((0, 1, 2)), shown, (0, 1, 2), "a") for shown in ((0, 1, 2), (1, 0, 2))
    )  # only 0 and 1 were shown in both orders, and the first of them won both times
    assert order_flip_rate([GroupScore([None] * 3, kind="hard", rankings=rankings)]) == Rate(1, 1)
