"""Strict reading: whatever is not as asked is no verdict."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import JudgeFailure
from rewards.rubric_config import Criterion
from rewards.rubrics.reading import comparison_schema, read_comparison, read_written, written_schema

CRITERIA = (
    Criterion(id="facts", text="No false claims.", type="fatal"),
    Criterion(id="depth", text="Explains.", type="core", scale=4),
)
LABELS = ("A", "B")


def entry(name: str, better: str = "same", by: Any = 0, **more: Any) -> dict[str, Any]:
    return {"id": name, "evidence": "a quote", "reason": "because", "better": better, "by": by, **more}


GOOD = {"criteria": [entry("depth", "B", 1), entry("facts", "A", 2)]}


def test_entries_in_the_order_of_the_rubric() -> None:
    judged = read_comparison(GOOD, CRITERIA, LABELS)
    assert [(one.criterion.id, one.value, one.evidence, one.reason) for one in judged] == [
        ("facts", 1.0, "a quote", "because"),
        ("depth", -0.25, "a quote", "because"),
    ]
    jsonschema.validate(GOOD, comparison_schema(CRITERIA, LABELS))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda reply: reply["criteria"].pop(), "'facts' is missing"),
        (lambda reply: reply["criteria"].append(entry("facts")), "each criterion once"),
        (lambda reply: reply["criteria"].append(entry("style")), "one of facts, depth"),
        (lambda reply: reply["criteria"].append(entry(["facts"])), "each criterion once"),  # pyright: ignore
        (lambda reply: reply["criteria"].append("facts"), "a list of objects"),
        (lambda reply: reply.update(criteria={"facts": 1}), "a list of objects"),
        (lambda reply: reply.clear(), "a list of objects"),
        (lambda reply: reply["criteria"][0].update(better="C"), "A, B or same"),
        (lambda reply: reply["criteria"][0].update(better=None), "A, B or same"),
        (lambda reply: reply["criteria"][0].update(by=5), "a whole number from 0 to 4"),
        (lambda reply: reply["criteria"][0].update(by=-1), "a whole number from 0 to 4"),
        (lambda reply: reply["criteria"][0].update(by=1.5), "a whole number from 0 to 4"),
        (lambda reply: reply["criteria"][0].update(by=True), "a whole number from 0 to 4"),
        (lambda reply: reply["criteria"][0].update(by="1"), "a whole number from 0 to 4"),
        (lambda reply: reply["criteria"][0].update(by=0), "0 for same, and only then"),
        (lambda reply: reply["criteria"][0].update(better="same"), "0 for same, and only then"),
        (lambda reply: reply["criteria"][0].update(evidence=" "), "evidence"),
        (lambda reply: reply["criteria"][0].pop("evidence"), "evidence"),
        (lambda reply: reply["criteria"][0].pop("reason"), "evidence"),
    ],
)
def test_anything_else_is_refused(change: Any, words: str) -> None:
    reply = copy.deepcopy(GOOD)
    change(reply)
    with pytest.raises(JudgeFailure, match=words) as caught:
        read_comparison(reply, CRITERIA, LABELS)
    assert caught.value.cause == "bad_reply"
    assert caught.value.retryable


def written(name: str, kind: str = "core", text: str = "Says\n why.", **more: Any) -> dict[str, Any]:
    return {"id": name, "text": text, "type": kind, **more}


def test_criteria_of_the_models_own() -> None:
    reply = {"criteria": [*GOOD["criteria"], entry("why", "A", 2, text="Says\n why.", type="highlight")]}
    judged = read_comparison(reply, CRITERIA, LABELS, extra=(1, 2))
    assert judged[2].criterion == Criterion(id="why", text="Says why.", type="highlight")
    with pytest.raises(JudgeFailure, match="2 to 3 of your own, got 1"):
        read_comparison(reply, CRITERIA, LABELS, extra=(2, 3))
    with pytest.raises(JudgeFailure, match="one of facts, depth"):
        read_comparison(reply, CRITERIA, LABELS)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([written("a")], "2 to 3 of your own, got 1"),
        ([written("a"), written("b"), written("c"), written("d")], "got 4"),
        ([written("a"), written("a")], "each criterion once"),
        ([written("a"), written("facts")], "none of the given ones"),
        ([written("a"), written("Is good")], "small letters"),
        ([written("a"), written("fatal")], "no type's name"),
        ([written("a"), written("b", "fatal")], "one of core, important, highlight"),
        ([written("a"), written("b", text=" ")], "1 to 500 characters"),
        ([written("a"), written("b", text="x" * 501)], "1 to 500 characters"),
        ([written("a"), written("b", ["core"])], "one of core, important, highlight"),  # pyright: ignore
        ([written("a"), written("b\n")], "small letters"),
        ([written("a"), written("b", text="half of a pair: \ud800")], "without half of a surrogate pair"),
    ],
)
def test_written_criteria_that_are_refused(entries: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(JudgeFailure, match=words):
        read_written({"criteria": entries}, CRITERIA, (2, 3))


def test_written_criteria() -> None:
    reply = {"intent": "to know", "criteria": [written("a"), written("b", "highlight", weight=9)]}
    assert [(c.id, c.weighs) for c in read_written(reply, CRITERIA, (2, 3))] == [("a", 5.0), ("b", 1.0)]
    del reply["criteria"][1]["weight"]  # pyright: ignore
    jsonschema.validate(reply, written_schema())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=3), values, max_size=2),
    max_leaves=3,
)
"""What JSON can hold, half surrogates too."""
ENTRIES = st.builds(
    lambda name, changes: entry(name, "A", 2, text="Says why.", type="core") | changes,
    st.sampled_from(["a", "facts", "depth"]),
    st.dictionaries(st.sampled_from(["id", "text", "type", "evidence", "reason", "better", "by"]), VALUES, max_size=1),
)


@given(reply=st.fixed_dictionaries({"criteria": st.lists(ENTRIES, max_size=4) | VALUES}))
def test_whatever_a_model_says_is_read_or_refused(reply: dict[str, Any]) -> None:
    for read in (
        lambda: read_written(reply, CRITERIA, (1, 3)),
        lambda: read_comparison(reply, CRITERIA, LABELS),
        lambda: read_comparison(reply, (), LABELS, extra=(1, 3)),
    ):
        with contextlib.suppress(JudgeFailure):
            read()
