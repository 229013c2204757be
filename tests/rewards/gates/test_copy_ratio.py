from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import UserError
from rewards.gate_config import CopyRatioGate, GateConfig
from rewards.gates.copy_ratio import copy_ratio
from rewards.gates.words import normalized_words
from rewards.types import Candidate, Prompt
from tests.rewards.gates.asking import hard

SOURCE = "The quick brown fox jumps over the lazy dog. It wasn't seen again."
PROMPT = Prompt(id="p1", text=f"Summarise: {SOURCE}", fields={"text": SOURCE, "title": "Fox"})


def check(config: GateConfig, answer: str) -> str | None:
    return hard(config, Candidate("c", answer), PROMPT)


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
