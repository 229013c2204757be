"""What the comparisons of all criteria come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.rubric_config import Criterion, CriterionType
from rewards.rubrics.aggregate import Judged, aggregate, by_criterion


def on(kind: CriterionType, value: float, name: str = "c", **keys) -> Judged:
    return Judged(Criterion(id=name, text="t", type=kind, **keys), value)


@pytest.mark.parametrize(
    ("judged", "score"),
    [
        # 5 and 2 and 1: (5 * 1 - 2 * 0.5 + 0) / 8.
        ([on("core", 1.0), on("important", -0.5), on("highlight", 0.0)], 0.5),
        # One highlight among ties is worth an eighth; OpenRS, which leaves ties out, would say 1.
        ([on("core", 0.0), on("important", 0.0), on("highlight", 1.0)], 1 / 8),
        ([on("core", 1.0, weight=3.0), on("core", -1.0, weight=1.0)], 0.5),
        ([on("core", -1.0), on("fatal", 0.0)], -1.0),  # A fatal criterion that both pass decides nothing.
        ([on("core", -1.0), on("fatal", 0.5)], 1.5),  # It vetoes: all else is ignored.
        ([on("core", 1.0), on("fatal", -1.0), on("fatal", 0.0)], -1.5),
        ([on("core", 1.0), on("fatal", -1.0), on("fatal", 1.0)], 0.0),  # Each fails one: a tie.
        ([on("fatal", 0.0)], 0.0),
    ],
)
def test_by_hand(judged: list[Judged], score: float) -> None:
    assert aggregate(judged, {}) == pytest.approx(score)
    mirrored = [Judged(one.criterion, -one.value) for one in judged]
    assert aggregate(mirrored, {}) == pytest.approx(-score)


def test_parts_by_hand() -> None:
    judged = [
        on("core", 1.0, part="path"),
        on("core", 0.0, part="path"),
        on("core", -1.0, part="answer"),
        on("highlight", 0.5, part="answer"),
    ]
    # path (5 + 0) / 10 = 0.5; answer (-5 + 0.5) / 6 = -0.75; 0.6 * 0.5 - 0.4 * 0.75 = 0.
    assert aggregate(judged, {"path": 0.6, "answer": 0.4}) == pytest.approx(0.0)
    assert aggregate(judged, {"path": 3.0, "answer": 1.0}) == pytest.approx((3 * 0.5 - 0.75) / 4)


VALUES = st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])
JUDGED = st.lists(
    st.builds(on, st.sampled_from(["fatal", "core", "important", "highlight"]), VALUES), min_size=1, max_size=6
)


@given(JUDGED)
def test_a_veto_is_beyond_everything_else(judged: list[Judged]) -> None:
    score = aggregate(judged, {})
    if any(one.value for one in judged if one.criterion.type == "fatal"):
        assert score == 0.0 or 1.0 < abs(score) <= 2.0
    else:
        assert abs(score) <= 1.0 + 1e-12


@given(JUDGED, st.integers(0, 5))
def test_better_on_a_criterion_never_makes_worse(judged: list[Judged], index: int) -> None:
    if not any(one.criterion.type == "fatal" for one in judged):
        index %= len(judged)
        better = [*judged]
        better[index] = Judged(judged[index].criterion, 1.0)
        assert aggregate(better, {}) >= aggregate(judged, {}) - 1e-12


def test_criteria_that_are_not_known_are_averaged_by_type() -> None:
    judged = [on("core", 1.0, "a"), on("core", 0.5, "b"), on("core", -1.0, "c"), on("fatal", 0.0, "d")]
    assert by_criterion(judged, frozenset({"a", "d"})) == {"a": 1.0, "core": -0.25, "d": 0.0}
