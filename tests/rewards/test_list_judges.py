"""Judges that rank several answers in one call: what they say, what they are shown, what they refuse."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import LikelihoodJudge, PythonJudge, VerdictTokensJudge, can_rank
from rewards.judges import build_judge
from rewards.judges.embedding import Embedding
from rewards.judges.likelihood import Likelihood
from rewards.judges.places import places_of
from rewards.judges.verdict_tokens import LIST_DATA, LIST_TEXTS
from rewards.list_template import ListTemplate, load_list_template
from rewards.template import TEMPLATE_DIR
from rewards.types import Candidate, ChoiceScores, Judge, ListJudge, Message, Places, Prompt, Span
from rollouts.tiny import build_tiny_model
from tests.rewards.test_judges import ANSWERS, PROMPT, CountingEncoder, bert, candidate, embedding_config
from tests.rewards.test_template import HOSTILE, fences

__all__ = ["bert"]

VERDICT_TOKENS = VerdictTokensJudge(kind="verdict_tokens", model="any")


class LengthScorer:
    """A TokenScorer to whom a label is as likely as its answer is long; it keeps what it was asked."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift
        self.asked: list[tuple[Sequence[Message], str, tuple[str, ...]]] = []

    async def choice_logprobs(self, messages: Sequence[Message], prefill: str, choices: Sequence[str]) -> ChoiceScores:
        self.asked.append((messages, prefill, tuple(choices)))
        _, *answers = [span.text for message in messages for span in message.spans if span.is_data]
        assert len(answers) == len(choices)
        lengths = [len(answer) / 10 for answer in answers]
        return ChoiceScores((lengths[0] + self.shift, *lengths[1:]), tokens_in=11)


GIVEN: dict[str, Any] = {}
"""What `RanksAsTold` gives back."""


class RanksAsTold:
    def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> float:
        return 0.5

    def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Any:
        return GIVEN["places"]


class RanksByLength:
    def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> float:
        return 0.5

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[int]:
        return [sum(len(other.text) > len(one.text) for other in candidates) for one in candidates]


def python_config(name: str, **keys: Any) -> PythonJudge:
    return PythonJudge(kind="python", target=f"{__name__}:{name}", **keys)


def only_compares(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    return 0.5


MAKERS: dict[str, Callable[[Path], Judge]] = {
    "embedding": lambda bert: build_judge(embedding_config(bert)),
    "likelihood": lambda bert: build_judge(
        LikelihoodJudge(kind="likelihood", model=str(build_tiny_model(bert.parent / "llama")), max_tokens=16)
    ),
    "verdict_tokens": lambda bert: build_judge(VERDICT_TOKENS, token_scorer=LengthScorer()),
    "python": lambda bert: build_judge(python_config("RanksByLength", ranks=True, symmetric=True)),
}


@pytest.fixture(params=MAKERS)
async def judge(request: pytest.FixtureRequest, bert: Path) -> AsyncIterator[Judge]:
    made = MAKERS[request.param](bert)
    yield made
    await made.close()


async def rank(judge: Judge, *texts: str, prompt: Prompt = PROMPT) -> tuple[int, ...]:
    assert isinstance(judge, ListJudge)
    said = await judge.rank(prompt, [candidate(text) for text in texts])
    assert isinstance(said, Places)
    return said.places


# --- the contract ------------------------------------------------------------------------------------------------


async def test_every_judge_ranks_and_repeats_itself(judge: Judge) -> None:
    places = await rank(judge, *ANSWERS)
    assert len(places) == len(ANSWERS)
    assert min(places) == 0
    assert await rank(judge, *ANSWERS) == places


async def test_equal_answers_are_level_and_symmetric_judges_turn_with_the_order(judge: Judge) -> None:
    one, two, again = await rank(judge, "sea", "a bird", "sea")
    assert one == again != two
    if judge.symmetric:
        forward, backward = await rank(judge, *ANSWERS), await rank(judge, *ANSWERS[::-1])
        assert forward == backward[::-1]


async def test_places_agree_with_pairs_where_no_order_is_seen(judge: Judge) -> None:
    if not (judge.symmetric and judge.kind == "score"):
        return
    placed = zip(ANSWERS, await rank(judge, *ANSWERS), strict=True)
    for (first, place), (second, other) in itertools.combinations(placed, 2):
        value = (await judge.compare(PROMPT, candidate(first), candidate(second))).value
        assert value is not None
        assert np.sign(value) == np.sign(other - place)


@given(st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=16))
def test_places_by_a_slow_count(values: list[float]) -> None:
    ordered = sorted(values, reverse=True)
    assert Places(places_of(values)).places == tuple(ordered.index(value) for value in values)


def test_who_can_rank() -> None:
    assert can_rank(VERDICT_TOKENS)
    assert can_rank(python_config("RanksByLength", ranks=True))
    assert not can_rank(python_config("RanksByLength"))
    assert not isinstance(build_judge(python_config("RanksByLength")), ListJudge)


# --- embedding and likelihood --------------------------------------------------------------------------------------


async def test_embedding_by_hand() -> None:
    encoder = CountingEncoder()
    judge = Embedding("e", encoder)
    # Against (2, 1, 0): a 0.894, b 0.447, c 0, ab 0.949, and again a.
    assert await rank(judge, "a", "b", "c", "ab", "a", prompt=Prompt("p", "aab")) == (1, 3, 4, 0, 1)
    assert encoder.batches == [["aab", "a", "b", "c", "ab"]]
    with pytest.raises(JudgeFailure):
        await rank(judge, "zzz", "a", prompt=Prompt("p", "a"))
    await judge.close()


async def test_likelihood_reads_each_answer_once() -> None:
    class Model:
        asked = 0

        def mean_logprob(self, context: Sequence[Span], text: str) -> float:
            self.asked += 1
            answer = "".join(span.text for span in context)
            return -1.0 / len(answer) if answer != "nan" else math.nan

    model = Model()
    judge = Likelihood("j", model, hint="{answer}")
    assert await rank(judge, "xx", "xxxxx", "x", "xx") == (1, 0, 3, 1)
    assert model.asked == 3
    with pytest.raises(JudgeFailure, match="not finite"):
        await rank(judge, "x", "nan")
    await judge.close()


# --- verdict tokens ------------------------------------------------------------------------------------------------


async def test_verdict_tokens_asks_once_which_label_is_the_best() -> None:
    scorer = LengthScorer()
    config = VERDICT_TOKENS.model_copy(update={"criteria": "Which is longer?", "labels": (" A", " B", " C", " D")})
    judge = build_judge(config, token_scorer=scorer)
    assert isinstance(judge, ListJudge)
    said = await judge.rank(PROMPT, [candidate(text) for text in ("four", "two", "fourteen")])
    assert (said.places, said.tokens_in) == ((1, 2, 0), 11)
    [(messages, _, choices)] = scorer.asked
    assert choices == (" A", " B", " C")
    trusted = "".join(span.text for message in messages for span in message.spans if not span.is_data)
    assert "Which is longer? Reply with the label of the best answer, one of A, B, C." in trusted
    assert [trusted.count(f"Answer {label}:") for label in "ABCD"] == [1, 1, 1, 0]
    data = [span.text for message in messages for span in message.spans if span.is_data]
    assert data == [PROMPT.text, "four", "two", "fourteen"]
    assert len(set(fences(list(messages)))) == 4


@pytest.mark.parametrize("shift", [math.inf, -math.inf, math.nan])
async def test_verdict_tokens_without_finite_logprobs_is_a_failed_call(shift: float) -> None:
    with pytest.raises(JudgeFailure) as caught:
        await rank(build_judge(VERDICT_TOKENS, token_scorer=LengthScorer(shift)), "a", "b", "c")
    assert (caught.value.cause, caught.value.retryable) == ("bad_reply", False)


# --- the template --------------------------------------------------------------------------------------------------


def template(tmp_path: Path, content: str) -> ListTemplate:
    (tmp_path / "mine.md").write_text(content)
    return load_list_template("mine.md", texts=LIST_TEXTS, data=LIST_DATA, base_dir=tmp_path)


def test_only_the_paragraph_with_the_answer_is_repeated(tmp_path: Path) -> None:
    made = template(tmp_path, "# user\n{prompt}\n\nOne {label} {{answer}}\n{answer}\nends.\n\n{criteria} {labels}")
    texts, data = {"criteria": "C?", "labels": "X, Y"}, {"prompt": "P"}
    ((message,), prefill) = made.render(texts, data, [("X", "first"), ("Y", "{label}\n\n{answer}")], seed=0)
    number = fences([message])
    assert message.text == (
        f"[text {number[0]}]\nP\n[end {number[0]}]\n\n"
        f"One X {{answer}}\n[text {number[1]}]\nfirst\n[end {number[1]}]\nends.\n\n"
        f"One Y {{answer}}\n[text {number[2]}]\n{{label}}\n\n{{answer}}\n[end {number[2]}]\nends.\n\n"
        "C? X, Y"
    )
    assert prefill == ""


@pytest.mark.parametrize("file", sorted(TEMPLATE_DIR.glob("*_list.md")), ids=lambda file: file.stem)
@given(prompt=HOSTILE, answers=st.lists(HOSTILE, min_size=2, max_size=5))
def test_no_text_changes_the_structure(file: Path, prompt: str, answers: list[str]) -> None:
    made = load_list_template(file.stem, texts=LIST_TEXTS, data=LIST_DATA)

    def render(prompt: str, answers: Sequence[str]) -> list[Message]:
        items = list(zip("ABCDE", answers, strict=False))
        return made.render({"criteria": "?", "labels": "A, B"}, {"prompt": prompt}, items, seed=3)[0]

    def trusted(messages: list[Message]) -> list[str]:
        spans = [span.text for message in messages for span in message.spans if not span.is_data]
        return [re.sub("[0-9a-f]{8}", "#", text) for text in spans]

    hostile = render(prompt, answers)
    assert trusted(hostile) == trusted(render("p", [str(number) for number in range(len(answers))]))
    assert [span.text for message in hostile for span in message.spans if span.is_data] == [prompt, *answers]
    assert len(fences(hostile)) == 1 + len(answers)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("# user\n{prompt} {label}", r"placeholder \{answer\} is missing"),
        ("# user\n{prompt}\n\n{label}:\n\n{answer}", r"\{label\} stands in a paragraph without \{answer\}"),
        ("# user\n{prompt} {label} {answer}\n# assistant\n{label}", r"\{label\} stands in a paragraph without"),
        ("# user\n{prompt} {lable} {answer}", r"mine\.md:2: unknown placeholder \{lable\}; did you mean 'label'"),
    ],
)
def test_faults_of_a_template_are_the_users(tmp_path: Path, content: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        template(tmp_path, content)


# --- python --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [[0, 1], [0, 1, 1, 3, 4], [1, 2, 3], [0, 0, 1], [0.5, 1, 2], "abc", 7, [0, 2, 2]])
async def test_what_is_no_ranking_of_three_names_the_target(places: Any) -> None:
    GIVEN["places"] = places
    with pytest.raises(UserError, match=rf"judge '{__name__}:RanksAsTold' returned .* a ranking of 3 is 3 places"):
        await rank(build_judge(python_config("RanksAsTold", ranks=True)), "a", "b", "c")


@pytest.mark.parametrize("places", [[2, 0, 1], (0, 0, 2), np.array([0, 1, 1]), iter([1, 0, 1])])
async def test_every_list_of_whole_numbers_will_do(places: Any) -> None:
    GIVEN["places"] = places
    assert len(await rank(build_judge(python_config("RanksAsTold", ranks=True)), "a", "b", "c")) == 3


async def test_none_is_no_ranking() -> None:
    GIVEN["places"] = None
    with pytest.raises(JudgeFailure) as caught:
        await rank(build_judge(python_config("RanksAsTold", ranks=True)), "a", "b")
    assert (caught.value.cause, caught.value.retryable) == ("empty", False)


@pytest.mark.parametrize("name", ["only_compares", "RanksNot"])
def test_ranks_needs_a_method_rank(name: str) -> None:
    with pytest.raises(UserError, match=r"judge\.ranks is true, and judge\.target .* no class with a method `rank`"):
        build_judge(python_config(name, ranks=True))


class RanksNot:
    def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> float:
        return 0.5
