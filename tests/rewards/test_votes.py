"""Tables of verdicts out of match logs: rankings beside matches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rewards.aggregators.votes import RankedSlate, asked_one_order, verdict_table
from rewards.types import Match, MatchLog, Ranking, Slate
from tests.rewards.logs import log_of


def ranking(shown: tuple[int, ...], places: tuple[int, ...] | None, round: int = 0) -> Ranking:
    failure = None if places is not None else "timeout"
    return Ranking(Slate(tuple(sorted(shown)), round), shown, places, "test", failure)


def test_a_ranking_adds_its_pairs_with_k_minus_1_votes_together() -> None:
    # Shown 3, 0, 2: 0 is the best, 2 and 3 are level.
    log = MatchLog(4, "hard", log_of([(0, 1, 1.0)], 4).matches, rankings=(ranking((3, 0, 2), (1, 0, 1)),))
    table = verdict_table(log)
    rows = list(zip(table.first_V, table.second_V, table.value_V, strict=True))
    assert rows == [(0, 1, 1.0), (0, 2, 1.0), (0, 3, 1.0), (2, 3, 0.5)]
    assert table.weight_V == pytest.approx([1.0, 2 / 3, 2 / 3, 2 / 3])
    assert len(set(table.match_V.tolist())) == 4
    assert table.ranking_V is not None
    assert table.ranking_V.tolist() == [-1, 0, 0, 0]
    assert table.rankings == (RankedSlate(((0,), (2, 3))),)
    assert not table.one_order, "seats of a ranking's pairs mean nothing"


def test_a_failed_ranking_and_one_of_a_judge_without_weight_are_absent() -> None:
    rankings = (ranking((0, 1, 2), None), ranking((0, 1, 2), (0, 1, 2), 1), ranking((2, 1, 0), (0, 1, 2), 2))
    table = verdict_table(MatchLog(3, "score", (), rankings=rankings))
    assert table.value_V.tolist() == [1.0] * 6
    assert table.match_V.tolist() == sorted(set(table.match_V.tolist()))
    assert verdict_table(MatchLog(3, "hard", (), rankings=rankings), {"test": 0.0}).rankings == ()


@pytest.mark.parametrize("members", [(1,), (2, 1), (1, 1), (-1, 2)])
def test_a_slate_has_ascending_slots(members: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Slate(members)


def test_places_and_failures_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Ranking(Slate((0, 1)), (0, 1), (0, 1), "test", "timeout")
    with pytest.raises(ValueError, match="as many places"):
        Ranking(Slate((0, 1)), (0, 1), (0,), "test")
    with pytest.raises(ValueError, match="slate's slots"):
        Ranking(Slate((0, 1)), (0, 2), (0, 1), "test")


def test_seats_matter_where_some_match_was_asked_in_one_order_only() -> None:
    once = log_of([(0, 1, 1.0)], 3)
    both = MatchLog(3, "hard", tuple(_both(match) for match in once.matches))
    mixed = MatchLog(3, "hard", (*both.matches, *log_of([(1, 2, 1.0)], 3).matches))
    assert verdict_table(once).one_order
    assert not verdict_table(both).one_order
    assert verdict_table(mixed).one_order
    tables = [verdict_table(both), verdict_table(MatchLog(3, "hard", ()))]
    assert not asked_one_order(tables), "a group without a verdict decides nothing"
    assert asked_one_order([*tables, verdict_table(mixed)])


def _both(match: Match) -> Match:
    (call,) = match.calls
    return replace(match, calls=(call, replace(call, first=call.second, second=call.first)))
