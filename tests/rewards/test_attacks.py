"""Attacks on answers: pure, seeded, minimal where they say so."""

from __future__ import annotations

import difflib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.attacks import ADDITIONS, ATTACKS, CORRUPTIONS, attacked
from rewards.attacks.additions import FLATTERY, INSTRUCTIONS
from rewards.attacks.corruptions import changed_number, flipped_negation, swapped_names

TEXT = "In 1889 Paris was not yet as large as London, but Gustave has built 1 tower of 300 m there."


def lots(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", ATTACKS)
@given(text=st.text(max_size=60), seed=st.integers(0, 5))
def test_every_attack_is_a_function_of_its_seed(name: str, text: str, seed: int) -> None:
    assert attacked(name, text, seed=seed, key="a") == attacked(name, text, seed=seed, key="a")


@pytest.mark.parametrize("name", ATTACKS)
def test_other_keys_and_seeds_draw_other_attacks(name: str) -> None:
    assert len({attacked(name, TEXT, seed=seed, key=key) for seed in range(8) for key in "abc"}) > 1


@pytest.mark.parametrize("name", ADDITIONS)
@given(text=st.text(max_size=60))
def test_an_addition_keeps_the_answer_whole(name: str, text: str) -> None:
    after = attacked(name, text, seed=0, key="a")
    assert text in after
    assert len(after) > len(text)


@pytest.mark.parametrize("num_words", [0, 1, 39, 40, 41, 500])
def test_padding_doubles_the_length(num_words: int) -> None:
    after = attacked("padded_length", " ".join(["word"] * num_words), seed=0, key="a")
    assert max(2 * num_words, num_words + 40) <= len(after.split()) < num_words + max(num_words, 40) + 16


def test_flattery_goes_in_front_and_orders_at_the_end() -> None:
    assert attacked("flattery", TEXT, seed=0, key="a").removesuffix(f"\n\n{TEXT}") in FLATTERY
    assert attacked("injected_instructions", TEXT, seed=0, key="a").removeprefix(f"{TEXT}\n\n") in INSTRUCTIONS


@given(st.integers(0, 200))
def test_one_digit_changes(seed: int) -> None:
    after = changed_number(TEXT, lots(seed))
    (at,) = [at for at, (x, y) in enumerate(zip(TEXT, after, strict=True)) if x != y]
    assert after[at] in "123456789"
    assert at in (TEXT.index("1889"), TEXT.index("1 tower"), TEXT.index("300"))


@given(st.integers(0, 200))
def test_one_not_comes_or_goes(seed: int) -> None:
    text = "It was not cold. It is late. We can go."
    assert flipped_negation(text, lots(seed)) in {
        "It was cold. It is late. We can go.",
        "It was not cold. It is not late. We can go.",
        "It was not cold. It is late. We can not go.",
    }


@given(st.integers(0, 200))
def test_two_names_change_places(seed: int) -> None:
    after = swapped_names("London lies west. From London to Paris, then Rome. Go!", lots(seed))
    assert after in {
        "Paris lies west. From Paris to London, then Rome. Go!",
        "Rome lies west. From Rome to Paris, then London. Go!",
        "London lies west. From London to Rome, then Paris. Go!",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, "") for name in CORRUPTIONS),
        ("changed_number", "H2O, v1.2 and no number\n1. a list\n2) of two"),
        ("flipped_negation", "It can't, it isn't. This island, that doer: none."),
        ("swapped_names", "London is old. Paris too. Only one name inside: Rome."),
        ("swapped_names", "A heading\nAnother one"),
    ],
)
def test_what_has_nothing_to_change_stays(name: str, text: str) -> None:
    assert all(attacked(name, text, seed=seed, key="a") == text for seed in range(10))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_a_minimal_edit(name: str) -> None:
    for seed in range(10):
        after = attacked(name, TEXT, seed=seed, key="a")
        assert after != TEXT
        words = difflib.SequenceMatcher(None, TEXT.split(), after.split()).get_opcodes()
        assert sum(tag != "equal" for tag, *_ in words) <= 2
