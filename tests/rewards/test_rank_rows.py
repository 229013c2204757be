"""Rows to rankings: against match logs built row by row, against evalica and choix on human judgements, and by hand."""

from __future__ import annotations

import importlib.util
import random
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.aggregator_config import AggregatorConfig
from rewards.aggregator_options import aggregator_config
from rewards.aggregators import build_aggregator
from rewards.errors import UserError
from rewards.rank_rows import UNGROUPED, RankedGroup, rank_rows
from rewards.strict import config_kinds
from rewards.types import Call, Match, MatchLog, Pairing, Verdict
from rewards.verdict_rows import MAX_WEIGHT, VerdictRows, encode, group_tables

property_test = settings(max_examples=40)

WEIGHED = {name: kind for name, kind in config_kinds(AggregatorConfig).items() if "judge_weights" in kind.model_fields}
"""Kinds that weigh verdicts."""

Row = tuple[str, str, float, float, str, str]
"""a, b, score, weight, group, judge."""

ORDER_FREE = ["win_rate", "rank_quantile", "empirical_bayes"]
"""Kinds whose result does not depend on the order of the rows."""


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    score = draw(st.sampled_from([st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 16).map(lambda k: k / 16)]))
    pair = st.lists(st.sampled_from("uvwxyz"), min_size=2, max_size=2, unique=True)
    weight = st.sampled_from([0.0, 0.5, 1.0, 2.0])
    row = st.tuples(pair, st.tuples(score, weight, st.sampled_from("gh"), st.sampled_from("jk")))
    return [(a, b, *rest) for (a, b), rest in draw(st.lists(row, min_size=1, max_size=25))]


def ranked(rows: list[Row], **keywords: Any) -> dict[str, RankedGroup]:
    a, b, score, weight, group, judge = (list(column) for column in zip(*rows, strict=True))
    return rank_rows(a, b, score, weight=weight, group=group, judge=judge, **keywords)


def figures(board: dict[str, RankedGroup]) -> dict[tuple[str, str], list[float]]:
    """Every number of a board by (group, item); NaN for None."""
    numbers = {
        (name, item.item): [item.score, item.stderr, item.reward, item.rank, group.circular_triad_rate]
        for name, group in board.items()
        for item in group.items
    }
    return {key: [np.nan if number is None else float(number) for number in row] for key, row in numbers.items()}


def assert_same(one: dict[str, RankedGroup], other: dict[str, RankedGroup]) -> None:
    left, right = figures(one), figures(other)
    assert left.keys() == right.keys()
    for key, numbers in left.items():
        assert numbers == pytest.approx(right[key], abs=1e-7, nan_ok=True), key


def oracle(rows: list[Row], kind: str, judge_weights: dict[str, float]) -> dict[tuple[str, str], float | None]:
    """Rewards by (group, item) from match logs, one object per row."""
    hard = all(row[2] in (0.0, 0.5, 1.0) for row in rows)
    items: dict[str, list[str]] = {}
    matches: dict[str, list[Match]] = defaultdict(list)
    for group in sorted({row[4] for row in rows}):
        items[group] = sorted({name for row in rows if row[4] == group for name in row[:2]})
    for number, (a, b, score, weight, group, judge) in enumerate(rows):
        slots = sorted((items[group].index(a), items[group].index(b)))
        value = score if a < b else 1.0 - score
        call = Call(slots[0], slots[1], Verdict(value), judge, weight)
        matches[group].append(Match(Pairing(slots[0], slots[1], round=number), (call,)))
    logs = [
        MatchLog(len(items[g]), "hard" if hard else "probability", tuple(matches[g]), symmetric=True) for g in items
    ]
    fitted, _ = build_aggregator(aggregator_config(kind, {"judge_weights": judge_weights})).fit(logs)
    return {
        (group, item): reward
        for group, strengths in zip(items, fitted, strict=True)
        for item, reward in zip(items[group], strengths.rewards, strict=True)
    }


def test_golden_win_rates() -> None:
    """x: 1 and 1/2 of two; y: 0 and 1; z: 1/2 and 0. A tie of two shares a rank and the next rank is skipped."""
    board = rank_rows(["x", "x", "y"], ["y", "z", "z"], [1, 0.5, 1], aggregator="win_rate")
    assert [(i.item, i.score, i.rank) for i in board[UNGROUPED].items] == [
        ("x", 0.75, 1),
        ("y", 0.5, 2),
        ("z", 0.25, 3),
    ]
    assert board[UNGROUPED].num_matches == 3
    tied = rank_rows(["x", "x", "y"], ["y", "z", "z"], [1, 1, 0.5], aggregator="win_rate")[UNGROUPED]
    assert [(i.item, i.rank) for i in tied.items] == [("x", 1), ("y", 2), ("z", 2)]
    shared = rank_rows(["x", "x", "y"], ["y", "z", "z"], [0.5, 1, 1], aggregator="win_rate")[UNGROUPED]
    assert [(i.item, i.rank) for i in shared.items] == [("x", 1), ("y", 1), ("z", 3)]


def test_a_circle_shares_rank_one() -> None:
    group = rank_rows("xyz", "yzx", [1, 1, 1])[UNGROUPED]
    assert [item.rank for item in group.items] == [1, 1, 1]
    assert group.circular_triad_rate == 1.0


def test_weights_judges_and_items_without_weight() -> None:
    columns: dict[str, Any] = {"a": ["x", "y", "x"], "b": ["y", "x", "z"], "score": [1, 1, 1], "aggregator": "win_rate"}
    group = rank_rows(**columns, weight=[3, 1, 0])[UNGROUPED]
    assert [(i.item, i.score, i.rank) for i in group.items] == [("x", 0.75, 1), ("y", 0.25, 2), ("z", None, None)]
    assert group.num_matches == 2
    by_judge = rank_rows(**columns, judge=["j", "k", "l"], judge_weights={"j": 3.0, "l": 0.0})[UNGROUPED]
    assert by_judge == group


def test_tables_say_what_their_numbers_mean() -> None:
    """One fraction anywhere makes all groups probabilities, because a batch has one kind."""
    for scores, kind in (([1.0, 0.5, 0.0], "hard"), ([1.0, 0.25, 0.0], "probability")):
        a, b = encode("xyx", "yzz")
        rows = VerdictRows(a, b, np.array(scores), np.ones(3), encode("gfg")[0])
        tables = group_tables(rows, {})
        assert [(group.name, group.items, group.table.kind) for group in tables] == [
            ("f", ["y", "z"], kind),
            ("g", ["x", "y", "z"], kind),
        ]
        assert all(group.table.symmetric and not group.table.one_order for group in tables)


def test_strengths_are_the_score_where_there_are_any() -> None:
    items = rank_rows(["x"] * 9, ["y"] * 9, [1] * 6 + [0] * 3)[UNGROUPED].items
    assert items[0].score == pytest.approx(-(items[1].score or 0.0))
    assert items[0].reward == pytest.approx(1.0 - (items[1].reward or 0.0))
    assert items[0].stderr is not None
    assert 0.5 < (items[0].reward or 0.0) < 6 / 9  # shrunk towards one half


def test_kinds_are_those_of_the_recipe() -> None:
    assert set(config_kinds(AggregatorConfig).values()) == set(get_args(get_args(AggregatorConfig)[0]))
    assert {"win_rate", "rank_quantile", "empirical_bayes"} <= set(config_kinds(AggregatorConfig))


@pytest.mark.parametrize("kind", list(config_kinds(AggregatorConfig)))
def test_every_kind_finds_a_clear_order(kind: str) -> None:
    """Everyone beats all later ones three times; rows shuffled."""
    names = "abcde"
    pairs = [(x, y) for x in names for y in names if x < y] * 3
    random.Random(0).shuffle(pairs)
    group = rank_rows([x for x, _ in pairs], [y for _, y in pairs], [1.0] * len(pairs), aggregator=kind)[UNGROUPED]
    assert "".join(item.item for item in group.items) == names
    assert [item.rank for item in group.items] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", WEIGHED)
def test_the_heaviest_rows_give_finite_numbers(kind: str) -> None:
    extremes = {"k": 1000.0, "prior_sd": 100.0, "temperature": 1e-6, "judge_weights": {"mary": 1000.0}}
    most = {key: value for key, value in extremes.items() if key in WEIGHED[kind].model_fields}
    rng = np.random.default_rng(0)
    pairs = [(x, y) for x in "abcde" for y in "abcde" if x < y]
    columns = {
        "one way": ("a", "b", [1.0]),
        "chain": ("abc", "bcd", [1.0] * 3),
        "noise": ([x for x, _ in pairs], [y for _, y in pairs], rng.integers(3, size=len(pairs)) / 2.0),
    }
    for (name, (a, b, score)), options, total in product(columns.items(), ({}, most), (1e2, 1e5, 1e7, MAX_WEIGHT)):
        weight = total / len(a) / options.get("judge_weights", {"mary": 1.0})["mary"]
        weights, judges = [weight] * len(a), ["mary"] * len(a)
        items = rank_rows(a, b, score, weight=weights, judge=judges, aggregator=kind, **options)[UNGROUPED].items
        assert name == "noise" or "".join(item.item for item in items) == "abcd"[: len(items)]
        numbers = [(item.score, item.reward, item.rank, item.stderr or 0.0) for item in items]
        assert np.isfinite(np.array(numbers, dtype=np.float64)).all()


def test_a_group_of_too_many_items_is_named() -> None:
    num_items = 60_000
    names = [str(item) for item in range(num_items)]
    with pytest.raises(UserError, match=r"^group ungrouped: has 60000 items; 5000 at most are ranked together"):
        rank_rows(names, names[1:] + names[:1], np.ones(num_items), aggregator="win_rate")


def test_a_group_that_weighs_too_much_is_named() -> None:
    rows: dict[str, Any] = {"a": ["x", "x"], "b": ["y", "y"], "score": [1, 0], "judge": ["mary", "mary"]}
    with pytest.raises(UserError, match=r"^group g: its rows weigh 1.5e\+10 in all; 1e\+10 at most"):
        rank_rows(**rows, group=["g", "g"], weight=[1e10, 5e9])
    with pytest.raises(UserError, match=r"^group ungrouped: its rows weigh 2e\+12"):
        rank_rows(**rows, weight=[1e9, 1e9], judge_weights={"mary": 1000.0})


@pytest.mark.parametrize("kind", ORDER_FREE)
@property_test
@given(rows=row_lists())
def test_rows_are_a_match_log_each(kind: str, rows: list[Row]) -> None:
    weights = {"k": 2.0} if any(row[5] == "k" for row in rows) else {}
    expected = oracle(rows, kind, weights)
    seen = {key: numbers[2] for key, numbers in figures(ranked(rows, aggregator=kind, judge_weights=weights)).items()}
    assert seen.keys() == expected.keys()
    for key, reward in expected.items():
        assert seen[key] == pytest.approx(np.nan if reward is None else reward, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("kind", ORDER_FREE)
@property_test
@given(rows=row_lists(), seed=st.integers(0, 9))
def test_neither_order_nor_sides_of_rows_matter(kind: str, rows: list[Row], seed: int) -> None:
    mirrored = [(b, a, 1.0 - score, weight, group, judge) for a, b, score, weight, group, judge in rows]
    random.Random(seed).shuffle(mirrored)
    assert_same(ranked(rows, aggregator=kind), ranked(mirrored, aggregator=kind))


@property_test
@given(rows=row_lists())
def test_names_do_not_matter(rows: list[Row]) -> None:
    new = dict(zip("uvwxyz", "zyxwvu", strict=True))
    renamed = figures(ranked([(new[a], new[b], *rest) for a, b, *rest in rows]))  # pyright: ignore[reportArgumentType]
    for (group, item), numbers in figures(ranked(rows)).items():
        assert numbers == pytest.approx(renamed[group, new[item]], abs=1e-7, nan_ok=True)


@property_test
@given(rows=row_lists())
def test_ranks_follow_scores(rows: list[Row]) -> None:
    for group in ranked(rows).values():
        scored = [item for item in group.items if item.score is not None]
        assert group.items[: len(scored)] == scored
        for item in scored:
            assert item.rank == 1 + sum((other.rank or 0) < (item.rank or 0) for other in scored)
            for other in scored:
                lead = (item.score or 0.0) - (other.score or 0.0)
                assert lead <= 1e-6 or (item.rank or 0) < (other.rank or 0)
                assert lead != 0.0 or item.rank == other.rank
        assert all(item.rank is None and item.reward is None for item in group.items[len(scored) :])


@property_test
@given(rows=row_lists())
def test_other_groups_do_not_change_a_win_rate(rows: list[Row]) -> None:
    together = ranked(rows, aggregator="win_rate")
    for name, group in together.items():
        assert ranked([row for row in rows if row[4] == name], aggregator="win_rate") == {name: group}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": [1, 1.5]}, "row 1: score: 1.5; must be a number in [0, 1]"),
        ({"score": [float("nan"), 1]}, "row 0: score: nan"),
        ({"score": [1, None]}, "row 1: score: nan"),
        ({"weight": [1, -1]}, "row 1: weight: -1; must be a number from 0 to 1e+10"),
        ({"weight": [1, float("inf")]}, "row 1: weight: inf"),
        ({"weight": [1, 1.1e10]}, "row 1: weight: 1.1e+10; must be a number from 0 to 1e+10"),
        ({"b": ["y", "y"]}, "row 1: b: 'y'; must be another item than a"),
        ({"score": [1]}, "score has 1 rows and a has 2"),
        ({"group": ["g"]}, "group has 1 rows"),
        ({"aggregator": "winrate"}, "unknown aggregator: 'winrate'; did you mean 'win_rate'?"),
        ({"scale": [1]}, "did you mean 'scales'?"),
        ({"scales": []}, "scales: Tuple should have at least 1 item"),
        ({"scales": [-1]}, "scales.0: Input should be greater than 0"),
        ({"judge": ["mary", "john"], "judge_weights": {"mry": 2.0}}, "did you mean 'mary'?"),
        ({"judge_weights": {"mary": 2.0}}, "there is none"),
        ({"a": [], "b": [], "score": []}, "no rows"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        rank_rows(**({"a": ["x", "y"], "b": ["y", "z"], "score": [1, 0]} | change))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


# --- human judgements -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def human_similarity_DD() -> np.ndarray:  # noqa: N802 - a shape suffix
    """Mean similarity of 50 news texts as people graded it (Lee, Pincombe and Welsh 2005; shipped by gensim)."""
    spec = importlib.util.find_spec("gensim")
    assert spec is not None
    assert spec.origin is not None
    upper = np.loadtxt(Path(spec.origin).parent / "test" / "test_data" / "similarities0-1.txt")
    return np.triu(upper, 1) + np.triu(upper, 1).T


def human_rows(similarity_DD: np.ndarray) -> tuple[list[str], list[str], list[float], list[str]]:
    """For every text, which of two others people found closer to it: 58,800 rows with ties and cycles."""
    size = len(similarity_DD)
    a, b, score, group = [], [], [], []
    for reference in range(size):
        others = [text for text in range(size) if text != reference]
        for i, first in enumerate(others):
            for second in others[i + 1 :]:
                lead = np.sign(similarity_DD[reference, first] - similarity_DD[reference, second])
                a.append(f"text{first:02d}")
                b.append(f"text{second:02d}")
                score.append((lead + 1.0) / 2.0)
                group.append(f"to{reference:02d}")
    return a, b, score, group


@pytest.mark.parametrize("kind", ["win_rate", "empirical_bayes"])
def test_each_text_gets_back_the_order_people_gave(human_similarity_DD: np.ndarray, kind: str) -> None:
    a, b, score, group = human_rows(human_similarity_DD)
    board = rank_rows(a, b, score, group=group, aggregator=kind)
    assert len(board) == 50
    for name, ranking in board.items():
        human = human_similarity_DD[int(name[2:])]
        grades = [human[int(item.item[4:])] for item in ranking.items]
        assert grades == sorted(grades, reverse=True)
        ranks = [item.rank for item in ranking.items]
        assert ranks == [1 + sum(other > grade for other in grades) for grade in grades]  # equal grades share a rank


def test_all_human_rows_agree_with_evalica_and_choix(human_similarity_DD: np.ndarray) -> None:
    """Pooled over references the same rows contradict each other; three packages must still rank them alike."""
    import choix
    import evalica

    a, b, score, _ = human_rows(human_similarity_DD)
    winners = [{1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}[value] for value in score]
    rates = rank_rows(a, b, score, aggregator="win_rate")[UNGROUPED]
    theirs = evalica.average_win_rate(a, b, winners).scores
    assert [item.score for item in rates.items] == pytest.approx([theirs[item.item] for item in rates.items], abs=1e-12)
    assert rates.circular_triad_rate is not None
    assert 0.0 < rates.circular_triad_rate < 0.25

    strengths = {item.item: item.score for item in rank_rows(a, b, score)[UNGROUPED].items}
    names = sorted(strengths)
    ours_N = np.array([strengths[name] for name in names], dtype=np.float64)
    fitted = evalica.bradley_terry(a, b, winners, limit=1000).scores
    evalica_N = np.log([fitted[name] for name in names])
    wins_NN = np.zeros((50, 50))
    for first, second, value in zip(a, b, score, strict=True):
        wins_NN[int(first[4:]), int(second[4:])] += value
        wins_NN[int(second[4:]), int(first[4:])] += 1.0 - value
    choix_N = choix.ilsr_pairwise_dense(wins_NN)
    for other_N in (evalica_N, choix_N):
        assert ours_N - ours_N.mean() == pytest.approx(other_N - other_N.mean(), abs=0.02)
        assert np.argsort(ours_N).tolist() == np.argsort(other_N).tolist()
