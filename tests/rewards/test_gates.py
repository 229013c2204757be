from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import UserError
from rewards.gate_config import CopyRatioGate, GateConfig, LengthGate
from rewards.gates import BUILDERS, build_gates, copy_ratio, normalized_words
from rewards.types import Candidate, Prompt

SOURCE = "The quick brown fox jumps over the lazy dog. It wasn't seen again."
PROMPT = Prompt(id="p1", text=f"Summarise: {SOURCE}", fields={"text": SOURCE, "title": "Fox"})


def check(config: GateConfig, answer: str) -> str | None:
    return build_gates([config])[0].check(PROMPT, Candidate("c", answer))


def test_every_kind_is_built_in_the_order_given() -> None:
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(get_args(GateConfig)[0])}
    assert kinds == set(BUILDERS)
    gates = build_gates([CopyRatioGate(kind="copy_ratio"), LengthGate(kind="length")])
    assert [gate.name for gate in gates] == ["copy_ratio", "length"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("one two", "2 words, fewer than 3"),
        ("one two three.", None),
        (" one  two\nthree four! \n", None),
        ("one two three four five.", "5 words, more than 4"),
        ("one two three", "does not end in '.' or '!'"),
        ("one two three,", "does not end in '.' or '!'"),
        ("", "0 words, fewer than 3"),
    ],
)
def test_length(answer: str, reason: str | None) -> None:
    assert check(LengthGate(kind="length", min_words=3, max_words=4, endings=(".", "!")), answer) == reason


def test_length_without_endings_takes_any() -> None:
    assert check(LengthGate(kind="length"), "word") is None
    assert check(LengthGate(kind="length"), " ") is not None


@pytest.mark.parametrize(
    ("answer", "ratio"),
    [
        ("The quick brown fox jumps", 1.0),
        ("the QUICK, brown: fox - jumps!", 1.0),
        ("A quick brown fox jumps", 0.5),  # "a quick brown fox" is new, "quick brown fox jumps" is not
        ("quick fox brown jumps over", 0.0),
        ("lazy dog it wasn’t seen", 1.0),
        ("lazy dog", 1.0),  # shorter than n: one n-gram of two words
        ("dog lazy", 0.0),
        ("...", 0.0),
        ("", 0.0),
        ("the quick brown fox the quick brown fox", 0.4),  # 2 of 5 four-word sequences
    ],
)
def test_copy_ratio_by_hand(answer: str, ratio: float) -> None:
    assert copy_ratio(answer, SOURCE, 4) == pytest.approx(ratio)


@given(
    answer=st.lists(st.sampled_from("abc"), max_size=12),
    source=st.lists(st.sampled_from("abc"), max_size=12),
    n=st.integers(1, 5),
)
def test_copy_ratio_equals_a_search_in_the_text(answer: list[str], source: list[str], n: int) -> None:
    size = min(n, len(answer))
    joined = f" {' '.join(source)} "
    starts = range(len(answer) - size + 1) if answer else range(0)
    hits = [f" {' '.join(answer[start : start + size])} " in joined for start in starts]
    assert copy_ratio(" ".join(answer), " ".join(source), n) == pytest.approx(sum(hits) / len(hits) if hits else 0.0)


@given(text=st.text())
def test_a_text_is_wholly_a_copy_of_itself(text: str) -> None:
    assert copy_ratio(text, text, 5) == (1.0 if normalized_words(text) else 0.0)


def test_copy_gate_fails_at_its_bound_and_says_how_much() -> None:
    gate = CopyRatioGate(kind="copy_ratio", ngram=4, max_ratio=0.5)
    assert check(gate, "A quick brown fox jumps") == "50% of its 4-word sequences are copied"
    assert check(gate, "A quick brown fox leaps") is None
    assert check(CopyRatioGate(kind="copy_ratio", ngram=4, max_ratio=0.51), "A quick brown fox jumps") is None


def test_copy_gate_reads_the_field_it_is_told() -> None:
    instruction = "Summarise: the quick brown fox"
    assert check(CopyRatioGate(kind="copy_ratio", ngram=2, max_ratio=1.0), instruction) is not None
    assert check(CopyRatioGate(kind="copy_ratio", ngram=2, max_ratio=1.0, field="text"), instruction) is None
    assert check(CopyRatioGate(kind="copy_ratio", ngram=1, field="title"), "fox") is not None


def test_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"prompt p1 has no field 'txt'; did you mean 'text'\?"):
        check(CopyRatioGate(kind="copy_ratio", field="txt"), "a")
