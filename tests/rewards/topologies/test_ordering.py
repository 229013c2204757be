from __future__ import annotations

import math

from rewards.topologies.ordering import by_lot, by_prior, lots, mean_result, middle_of
from rewards.types import TournamentState

ALL_6 = TournamentState(6, frozenset(range(6)), True, {}, 3)


def test_lots_are_permutations_of_all_slots_and_independent() -> None:
    drawn = lots(ALL_6, 5)
    assert all(sorted(order) == list(range(6)) for order in drawn)
    assert len({tuple(order) for order in drawn}) > 1
    assert lots(ALL_6, 2) == drawn[:2], "further lots leave the first ones alone"


def test_who_is_missing_does_not_change_the_order_of_the_others() -> None:
    without_2 = TournamentState(6, frozenset({0, 1, 3, 4, 5}), True, {}, 3)
    assert by_lot(without_2) == [i for i in by_lot(ALL_6) if i != 2]


def test_by_prior_is_best_first_and_the_unknown_stand_in_the_middle() -> None:
    def order(prior_scores: dict[int, float]) -> list[int]:
        return by_prior(TournamentState(5, frozenset(range(5)), True, {}, 0, prior_scores))

    assert order({0: 1.0, 1: 5.0, 2: 3.0, 3: 4.0, 4: 2.0}) == [1, 3, 2, 4, 0]
    # The median of 9, 8, 1, 0 is 4.5: slot 2 stands between 8 and 1, without a score as with NaN.
    assert order({0: 1.0, 1: 9.0, 3: 8.0, 4: 0.0}) == [1, 3, 2, 0, 4]
    assert order({0: 1.0, 1: 9.0, 2: math.nan, 3: 8.0, 4: 0.0}) == [1, 3, 2, 0, 4]
    assert order({0: -math.inf, 1: 9.0, 2: math.inf, 3: 8.0, 4: 0.0}) == [2, 1, 3, 4, 0]


def test_equal_priors_are_ordered_by_lot() -> None:
    state = TournamentState(6, frozenset(range(6)), True, {}, 3, dict.fromkeys(range(6), 1.0))
    assert by_prior(state) == by_lot(state) == by_prior(ALL_6)


def test_the_middle_of_an_even_order_is_the_better_one() -> None:
    assert [middle_of("abcde"[:n]) for n in range(1, 6)] == ["a", "a", "b", "b", "c"]  # type: ignore[arg-type]


def test_mean_result_leaves_gaps_out() -> None:
    assert mean_result([1.0, None, 0.0, 0.5]) == 0.5
    assert mean_result([1.0, None]) == 1.0
    assert mean_result([None]) == mean_result([]) == 0.5
