"""Merged metrics equal the metrics of the whole, however it was cut."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.metrics import EffectiveShare, Max, Mean, Metric, Sum, merge, summarize

numbers = st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=20)


def describe(values: list[float]) -> dict[str, Metric]:
    return {
        "rl/loss": Sum(sum(values)),
        "rl/ratio": Mean(sum(values), len(values)),
        "rl/ratio_max": Max(max(values, default=-math.inf)),
    }


@given(values=numbers, cuts=st.lists(st.integers(0, 20), max_size=4))
def test_parts_merge_to_the_whole(values: list[float], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    parts = [describe(values[start:stop]) for start, stop in pairwise(edges)]
    assert merge(parts) == merge(reversed(parts)) == describe(values)


def test_summarize_gives_plain_numbers() -> None:
    row = summarize({"a": Sum(0.0), "b": Mean(3.0, 2), "c": Max(-1.0), "d": Mean(0.0, 0), "e": Max(-math.inf)})
    assert row == {"a": 0.0, "b": 1.5, "c": -1.0}


def test_the_effective_share_of_weights_by_hand() -> None:
    # weights 1 1 4: (6^2) / (3 * 18); level weights are worth their number
    parts = [
        {"w": EffectiveShare(2.0, 2.0, 2)},
        {"w": EffectiveShare(4.0, 16.0, 1)},
        {"w": EffectiveShare(0.0, 0.0, 0)},
    ]
    assert summarize(merge(parts)) == {"w": pytest.approx(2 / 3)}
    assert summarize({"w": EffectiveShare(6.0, 12.0, 3)}) == {"w": 1.0}
    assert summarize({"w": EffectiveShare(0.0, 0.0, 0)}) == {}


def test_a_key_may_be_missing_in_some_parts() -> None:
    assert merge([{"a": Sum(1.0)}, {}, {"a": Sum(2.0), "b": Max(1.0)}]) == {"a": Sum(3.0), "b": Max(1.0)}
    assert merge([]) == {}


def test_nan_stays_visible() -> None:
    for parts in ([math.nan, 1.0], [1.0, math.nan]):
        row = summarize(merge([{"max": Max(value), "mean": Mean(value, 1), "sum": Sum(value)} for value in parts]))
        assert all(math.isnan(value) for value in row.values())
        assert len(row) == 3


def test_one_key_of_two_kinds_is_a_bug() -> None:
    with pytest.raises(TypeError, match="'a' is Sum in one part and Max in another"):
        merge([{"a": Sum(1.0)}, {"a": Max(1.0)}])
