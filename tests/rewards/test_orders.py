"""Kemeny and tour: against all permutations, and the search beyond what can be enumerated."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.aggregator_config import Kemeny, Tour
from rewards.aggregators import build_aggregator
from rewards.aggregators.canonical import canonical_order
from rewards.aggregators.insertion import improve_kemeny, improve_tour
from rewards.aggregators.kemeny import kemeny_order, majority_parts
from rewards.aggregators.orders import kemeny_ranks, tour_ranks
from rewards.types import MatchLog, Strengths
from tests.rewards.logs import log_of

Matrix = np.ndarray


@st.composite
def matrices(draw: st.DrawFn, least: int = 1, most: int = 6) -> Matrix:
    """Halves of small whole numbers, so that many orders are level."""
    n = draw(st.integers(least, most))
    cells = draw(st.lists(st.integers(0, 4), min_size=n * n, max_size=n * n))
    matrix = np.array(cells, dtype=float).reshape(n, n) / 2.0
    np.fill_diagonal(matrix, 0.0)
    return matrix


def contradicted(wins: Matrix, order: tuple[int, ...]) -> float:
    return sum(float(wins[later, earlier]) for earlier, later in combinations(order, 2))


def worth(edges: Matrix, order: tuple[int, ...]) -> float:
    return sum(float(edges[one, following]) for one, following in pairwise(order))


def mean_ranks(orders: list[tuple[int, ...]]) -> list[float]:
    return [float(np.mean([order.index(i) for order in orders])) for i in range(len(orders[0]))]


@settings(max_examples=60)
@given(wins=matrices())
def test_kemeny_is_the_mean_over_all_best_permutations(wins: Matrix) -> None:
    costs = {order: contradicted(wins, order) for order in permutations(range(len(wins)))}
    best = min(costs.values())
    ranks, cost = kemeny_ranks(wins)
    assert cost == pytest.approx(best)
    assert ranks == pytest.approx(mean_ranks([order for order, c in costs.items() if c < best + 1e-9]))


@settings(max_examples=60)
@given(edges=matrices())
def test_tour_is_the_mean_over_all_best_permutations(edges: Matrix) -> None:
    sums = {order: worth(edges, order) for order in permutations(range(len(edges)))}
    best = max(sums.values())
    ranks, found = tour_ranks(edges)
    assert found == pytest.approx(best)
    assert ranks == pytest.approx(mean_ranks([order for order, s in sums.items() if s > best - 1e-9]))


@settings(max_examples=60)
@given(wins=matrices(2, 7))
def test_cutting_the_majority_graph_loses_no_optimal_order(wins: Matrix) -> None:
    ranks, cost = kemeny_order(wins)
    whole, best = kemeny_ranks(wins)
    assert cost == pytest.approx(best)
    assert ranks == pytest.approx(whole)
    parts = majority_parts(wins)
    for earlier, later in combinations(parts, 2):
        assert all(wins[i, j] > wins[j, i] for i in earlier for j in later)


def test_a_cycle_is_cut_out_of_an_order_by_hand() -> None:
    # 3 beats everybody, then the cycle 0 > 1 > 2 > 0, then 4.
    votes = [(3, i, 1.0) for i in (0, 1, 2, 4)] + [(i, 4, 1.0) for i in range(3)]
    votes += [(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)]
    found = fit(Kemeny(kind="kemeny"), log_of(votes, 5))
    assert found.rewards == pytest.approx([0.5, 0.5, 0.5, 1.0, 0.0])
    assert found.feedback_weight == pytest.approx(1 / 10)


def test_ties_are_no_feedback() -> None:
    assert fit(Kemeny(kind="kemeny"), log_of([(0, 1, 0.5), (1, 2, 1.0)], 3)).feedback_weight == pytest.approx(0.0)


def test_tour_reads_neighbours_only() -> None:
    # 0 > 1 > 2 clearly; 2 beats 0, which no neighbours contradict: one path is best, where Kemeny agrees.
    log = log_of([(0, 1, 1.0), (1, 2, 1.0), (2, 0, 0.6)], 3, "probability")
    assert fit(Tour(kind="tour"), log).rewards == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize("size", [13, 20])
def test_beyond_twelve_the_search_finds_what_was_planted(size: int) -> None:
    rng = np.random.default_rng(size)
    planted = rng.permutation(size)
    wins = np.zeros((size, size))
    for earlier, later in combinations(planted.tolist(), 2):
        wins[earlier, later] = 1.0
    for earlier, later in [rng.choice(size, 2, replace=False) for _ in range(size // 3)]:
        wins[earlier, later], wins[later, earlier] = wins[later, earlier], wins[earlier, later]
    start = rng.permutation(size)
    found = improve_kemeny(wins, start)
    assert sorted(found.tolist()) == list(range(size))
    assert contradicted(wins, tuple(found)) <= contradicted(wins, tuple(planted.tolist()))
    for position, candidate in enumerate(found):  # no single move is left that gains
        others = np.delete(found, position)
        moved = [contradicted(wins, tuple(np.insert(others, place, candidate))) for place in range(size)]
        assert min(moved) >= contradicted(wins, tuple(found)) - 1e-9


def test_the_search_meets_the_exact_tour_or_comes_near() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        edges = rng.normal(size=(9, 9))
        order = improve_tour(edges, np.argsort(-edges.sum(1)))
        _, best = tour_ranks(edges)
        assert worth(edges, tuple(order)) <= best + 1e-9
        assert worth(edges, tuple(order)) > 0.75 * best


def test_a_large_level_group_is_level() -> None:
    ties = log_of([(i, j, 0.5) for i, j in combinations(range(15), 2)], 15)
    assert fit(Kemeny(kind="kemeny"), ties).rewards == pytest.approx([0.5] * 15)


def test_a_canonical_order_does_not_go_by_names() -> None:
    # 0 beats 1 and 2, which cannot be told apart, and loses to 3; 4 > 5 and 6 > 7 are far from all that.
    wins = np.zeros((8, 8))
    for winner, loser in [(0, 1), (0, 2), (3, 0), (4, 5), (6, 7)]:
        wins[winner, loser] = 1.0
    order, colour = canonical_order(wins)
    assert [set(np.flatnonzero(colour == one)) for one in colour] == [
        {0}, {1, 2}, {1, 2}, {3}, {4, 6}, {5, 7}, {4, 6}, {5, 7}
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(10):
        names = rng.permutation(8)
        renamed = wins[np.ix_(names, names)]
        again, colours = canonical_order(renamed)
        assert np.array_equal(renamed[np.ix_(again, again)], wins[np.ix_(order, order)])
        assert np.array_equal(colours, colour[names])


def test_a_canonical_order_of_many_is_an_order() -> None:
    order, colour = canonical_order(np.kron(np.eye(40), [[0.0, 1.0], [0.0, 0.0]]).astype(np.float64))
    assert sorted(order.tolist()) == list(range(80))
    assert np.bincount(colour).tolist() == [40, 40]


def test_exact_orders_refuse_more_than_they_can() -> None:
    with pytest.raises(ValueError, match="at most 12"):
        kemeny_ranks(np.zeros((13, 13)))


def fit(config: Kemeny | Tour, log: MatchLog) -> Strengths:
    (one,) = build_aggregator(config).fit([log])[0]
    return one
