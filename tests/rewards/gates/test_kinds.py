"""Length, repetition, language, JSON, patterns, exact answers and functions, case by case."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import UserError
from rewards.gate_config import LengthGate
from rewards.gates import build_gates
from rewards.gates.exact_answer import same_answer
from rewards.gates.language import closest_rival, script_share
from rewards.gates.repetition import repetition
from rewards.types import Candidate, Prompt
from tests.rewards.gates.asking import hard, settled, soft
from tests.rewards.gates.test_contract import ENGLISH, GERMAN, config_of


@pytest.mark.parametrize(
    ("answer", "reason", "score"),
    [
        ("one two", "2 words, fewer than 3", 2 / 3),
        ("one two three.", None, 1.0),
        (" one  two\nthree four! \n", None, 1.0),
        ("one two three four five.", "5 words, more than 4", 4 / 5),
        ("one two three", "does not end in '.' or '!'", 0.0),
        ("one two three,", "does not end in '.' or '!'", 0.0),
        ("", "0 words, fewer than 3", 0.0),
    ],
)
def test_length(answer: str, reason: str | None, score: float) -> None:
    config = LengthGate(kind="length", min_words=3, max_words=4, endings=(".", "!"))
    assert hard(config, answer) == reason
    assert soft(config, answer) == pytest.approx(score)


def test_length_without_endings_takes_any() -> None:
    assert hard(LengthGate(kind="length"), "word") is None
    assert hard(LengthGate(kind="length"), " ") is not None


@pytest.mark.parametrize(
    ("items", "ngram", "share"),
    [
        (list("ababab"), 2, 1 - 2 / 5),  # ab ba ab ba ab: two distinct of five
        (list("abcdef"), 2, 0.0),
        (list("aaaa"), 1, 0.75),
        (list("ab"), 3, 0.0),
        ([], 1, 0.0),
    ],
)
def test_repetition_by_hand(items: list[str], ngram: int, share: float) -> None:
    assert repetition(items, ngram) == pytest.approx(share)


@given(items=st.lists(st.sampled_from("ab"), max_size=10), ngram=st.integers(1, 4))
def test_repetition_counts_what_stood_before(items: list[str], ngram: int) -> None:
    grams = [items[start : start + ngram] for start in range(len(items) - ngram + 1)]
    repeats = sum(gram in grams[:index] for index, gram in enumerate(grams))
    assert repetition(items, ngram) == pytest.approx(repeats / len(grams) if grams else 0.0)


def test_repetition_of_characters() -> None:
    config = config_of("repetition", ngram=2, unit="characters", max_ratio=0.5)
    assert hard(config, "你好你好你好你好") is not None
    assert hard(config_of("repetition", ngram=2, max_ratio=0.5), "你好你好你好你好") is None


class TestLanguage:
    TEXTS: ClassVar = {
        "en": ENGLISH,
        "de": GERMAN,
        "fr": "La maison du maire est sur la colline, et elle n'était pas à vendre pour cette somme.",
        "es": "La casa del alcalde está en la colina, pero no se vende por esa suma y es muy cara.",
        "it": "La casa del sindaco è sulla collina, ma non si vende per questa somma ed è anche cara.",
        "pt": "A casa do prefeito está na colina, mas não se vende por essa soma e também é muito cara.",
        "nl": "Het huis van de burgemeester staat op de heuvel, maar het is niet te koop voor dit bedrag.",
        "ru": "Дом мэра стоит на холме.",
        "el": "Το σπίτι είναι στον λόφο.",
        "ar": "البيت على التل",
        "he": "הבית על הגבעה",
        "hi": "घर पहाड़ी पर है",
        "th": "บ้านอยู่บนเนินเขา",
        "zh": "市长的房子在山上。",
        "ja": "市長の家は丘の上にあります。",
        "ko": "시장의 집은 언덕 위에 있다.",
    }

    @pytest.mark.parametrize("language", TEXTS)
    def test_each_text_is_of_its_language_only(self, language: str) -> None:
        config = config_of("language", language=language)
        passed = [name for name, text in self.TEXTS.items() if hard(config, text) is None]
        assert passed == [language]

    def test_of_few_words_nobody_can_tell(self) -> None:
        for text in ("Paris", "42", "", "1 + 1 = 2"):
            assert hard(config_of("language", language="en"), text) is None
        assert hard(config_of("language", language="ru"), "Paris") is not None

    def test_shares_by_hand(self) -> None:
        assert script_share("abc где", "ru") == pytest.approx(0.5)
        assert script_share("漢字漢字漢字漢字漢字か", "ja") == 0.0  # 1 of 11 letters is kana: fewer than a tenth
        assert script_share("漢字漢字漢字漢字かな", "ja") == 1.0
        assert closest_rival("the und", "en") == ("de", 0.5)
        assert closest_rival("the the und", "en") == ("de", 2 / 3)
        assert closest_rival("xyz", "en") == (None, 1.0)
        assert soft(config_of("language", language="en"), "the und") == pytest.approx(0.5)


class TestJson:
    RULES: ClassVar = {
        "type": "object",
        "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}, "days": {"type": "array", "maxItems": 2}},
        "required": ["city"],
        "additionalProperties": False,
    }

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ('{"city": "Rome", "days": [1, 2]}', None),
            (' {"city": "Rome"}\n', None),
            ('{"city": "rome"}', "$.city: 'rome' does not match '^[A-Z]'"),
            ('{"city": 3}', "$.city: 3 is not of type 'string'"),
            ('{"days": [1]}', "$: 'city' is a required property"),
            ('{"city": "Rome", "days": [1, 2, 3]}', "$.days: "),
            ('{"city": "Rome", "city": "Oslo"}', "not JSON: a key stands twice"),
            ('{"city": "Rome", "days": [NaN]}', "not JSON: NaN is no JSON number"),
            ('{"city": "Rome"} and more', "not JSON: Extra data"),
            ("```json\n{}\n```", "not JSON"),
            ("[" * 50_000, "not JSON"),
            ("9" * 5000, "not JSON"),
            ('"' + "x" * 100_000 + '"', "more than 100000 characters"),
        ],
    )
    def test_by_hand(self, answer: str, words: str | None) -> None:
        reason = hard(config_of("json_schema", rules=self.RULES), answer)
        assert (reason is None) if words is None else (reason is not None and words in reason)

    def test_in_a_fence(self) -> None:
        config = config_of("json_schema", rules=self.RULES, fenced=True)
        assert hard(config, 'Here:\n```json\n{"city": "Rome"}\n```\nDone.') is None
        assert hard(config, '{"city": "Rome"}') is None
        assert hard(config, "```\nno\n```") is not None

    @pytest.mark.parametrize("answer", ["[" * 400 + "]" * 400, "1e400", "1" * 400])
    def test_what_cannot_be_checked_fails(self, answer: str) -> None:
        reason = hard(config_of("json_schema", rules={"multipleOf": 0.01, "items": {"$ref": "#"}}), answer)
        assert str(reason).startswith("cannot be checked: ")

    @pytest.mark.parametrize(
        ("rules", "answer"),
        [
            ({"items": {"pattern": "^(a|aa)+$"}}, f'["{"a" * 60}!"]'),
            ({"patternProperties": {"^(a|aa)+$": {}}}, f'{{"{"a" * 60}!": 1}}'),
        ],
    )
    async def test_a_slow_pattern_is_cut_short_beside_the_event_loop(self, rules: Any, answer: str) -> None:
        (gate,) = build_gates([config_of("json_schema", rules=rules)])
        checking = asyncio.create_task(settled(gate, Candidate("c", answer)))
        turns = 0
        while not checking.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert "took longer than 0.5 s" in str(checking.result())
        assert turns > 5


class TestPattern:
    def test_all_of_the_required_and_none_of_the_forbidden(self) -> None:
        config = config_of("pattern", required=["one", "^two$"], forbidden=["three", "FOUR"])
        assert hard(config, "one\ntwo") == "no match of '^two$'"
        assert hard(config, "two") == "no match of 'one'"
        assert hard(config_of("pattern", required=["(?m)^two$"]), "one\ntwo") is None
        assert soft(config, "one three") == pytest.approx(2 / 4)
        assert hard(config_of("pattern", forbidden=["FOUR"], ignore_case=True), "four") == "matches 'FOUR'"

    def test_long_answers_fail_unread(self) -> None:
        config = config_of("pattern", forbidden=["x"], max_characters=10)
        assert hard(config, "a" * 10) is None
        assert hard(config, "a" * 11) == "more than 10 characters"

    async def test_a_catastrophic_pattern_is_cut_short_beside_the_event_loop(self) -> None:
        (gate,) = build_gates([config_of("pattern", required=["^(a|aa)+$"], timeout_s=0.2)])
        checking = asyncio.create_task(settled(gate, Candidate("c", "a" * 60 + "!")))
        turns = 0
        while not checking.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert "took longer than 0.2 s" in str(checking.result())
        assert turns > 5  # The loop went on while the search ran.


class TestExactAnswer:
    @pytest.mark.parametrize(
        ("given_answer", "right", "same"),
        [
            ("Paris", "paris", True),
            ("  «Paris». \n", "Paris", True),
            ("the  Eiffel\tTower", "The Eiffel Tower", True),
            ("1,000", "1000", True),
            ("1000.00", "1,000", True),
            ("1e3", "1000", True),
            ("−5", "-5", True),
            ("5", "-5", False),
            ("50%", "50", False),
            ("(50%)", "50%", True),
            (".5", "0.5", True),
            ("1,00", "100", False),
            ("", "", False),
            ("...", "", False),
            ("12", "012", True),
            ("x12", "12", False),
            ("½", "1⁄2", True),
            ("e4", "E4", True),
            ("E10", "10", False),
            ("-.5e1", "-5", True),
        ],
    )
    def test_by_hand(self, given_answer: str, right: str, same: bool) -> None:
        assert same_answer(given_answer, right) is same

    @given(*[st.one_of(st.text(max_size=20), st.text("0123456789eE+-.,", max_size=9))] * 2)
    def test_symmetric(self, one: str, other: str) -> None:
        assert same_answer(one, other) is same_answer(other, one)

    def test_extract_takes_the_last_match(self) -> None:
        config = config_of("exact_answer", field="answer", extract="(?m)^Answer: (.*)$")
        assert hard(config, "Answer: 7\nwait\nAnswer: 1000") is None
        assert hard(config, "Answer: 1000\nno\nAnswer: 7") == "says '7'"
        assert hard(config, "1000") == "no match of '(?m)^Answer: (.*)$'"
        assert hard(config_of("exact_answer", field="answer", extract="[0-9]+"), "7 then 1000") is None

    def test_several_right_answers(self) -> None:
        prompt = Prompt("p", "t", fields={"gold": "colour|color"})
        config = config_of("exact_answer", field="gold", separator="|")
        assert hard(config, "Color", prompt) is None
        assert hard(config, "colour|color", prompt) is not None

    def test_a_prompt_without_the_field(self) -> None:
        with pytest.raises(UserError, match=r"gate gold: prompt p has no field 'answr'; did you mean 'answer'\?"):
            hard(config_of("exact_answer", name="gold", field="answr"), "x")


class TestPython:
    PLUGIN = "tests.rewards.gates.plugin"

    def test_scores_and_their_bound(self) -> None:
        config = config_of("python", target=f"{self.PLUGIN}:share_of_letters", min_score=0.5)
        assert hard(config, "ab12") is None
        assert hard(config, "a123") == "scores 0.25"
        assert soft(config, "a123") == 0.25

    def test_impossible_ones(self) -> None:
        with pytest.raises(UserError, match=r"returned 2\.0; give a bool, or a score in \[0, 1\]"):
            hard(config_of("python", target=f"{self.PLUGIN}:two"), "a")
        with pytest.raises(UserError, match="is no function"):
            hard(config_of("python", target=f"{self.PLUGIN}:NO_FUNCTION"), "a")
        with pytest.raises(UserError, match="has no 'has_leters'; did you mean"):
            hard(config_of("python", target=f"{self.PLUGIN}:has_leters"), "a")
        with pytest.raises(UserError, match=r"one_argument' cannot be called with \(prompt, candidate\): too many"):
            hard(config_of("python", target=f"{self.PLUGIN}:one_argument"), "a")
