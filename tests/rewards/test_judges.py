from __future__ import annotations

import asyncio
import itertools
import math
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from rewards.endpoint_config import EndpointConfig
from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import (
    ChatJudge,
    EmbeddingJudge,
    JudgeConfig,
    LikelihoodJudge,
    PanelJudge,
    PanelMember,
    ProgramJudge,
    PythonJudge,
    RewardModelJudge,
    VerdictTokensJudge,
    judge_name,
)
from rewards.judges import BUILDERS, build_judge
from rewards.judges.embedding import Embedding
from rewards.judges.sentence_encoder import FloatArray, SentenceEncoder
from rewards.program_config import LengthProgram
from rewards.types import Candidate, ChoiceScores, Judge, Message, Prompt, Verdict
from rollouts.tiny import build_tiny_model
from tests.fakes.completers import FakeCompleter, longer_is_better
from tests.rewards.rubrics.test_rubric_judge import Scripted, deeper_is_longer, writes_then_compares
from tests.rewards.rubrics.test_rubric_judge import config as rubric_config
from tests.rewards.tiny_bert import build_tiny_bert
from tests.rewards.tiny_reward_models import build_tiny_preference, build_tiny_scalar

PROMPT = Prompt("p1", "Write about the sea.", fields={"text": "The sea is wide.", "topic": "sea"})
ANSWERS = ["The sea is wide and blue.", "A bird.", "", "sea sea sea", "Ünïcödé ☃ \n\t", "x" * 500]


# --- what the judges are made of --------------------------------------------------------------------------------


class LongerIsLikelier:
    """A TokenScorer whose log-probabilities are answer lengths; it keeps what it was asked."""

    def __init__(self, shift: float = 0.0):
        self.shift = shift
        self.asked: list[tuple[Sequence[Message], str, tuple[str, ...]]] = []

    async def choice_logprobs(self, messages: Sequence[Message], prefill: str, choices: Sequence[str]) -> ChoiceScores:
        self.asked.append((messages, prefill, tuple(choices)))
        _, first, second = [span.text for message in messages for span in message.spans if span.is_data]
        return ChoiceScores((len(first) / 10 + self.shift, len(second) / 10), tokens_in=7)


def longer_wins(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    return 0.5 + 0.5 * math.tanh(len(first.text) - len(second.text))


async def async_score(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    await asyncio.sleep(0)
    return float(len(first.text) - len(second.text))


class HardClass:
    closed = 0

    def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> float:
        return float(np.sign(len(first.text) - len(second.text))) / 2 + 0.5

    async def close(self) -> None:
        HardClass.closed += 1


class NoJudge:
    pass


RETURNS: dict[str, Any] = {}
"""What `returns` gives back."""


def returns(prompt: Prompt, first: Candidate, second: Candidate) -> Any:
    return RETURNS["value"]


def python_config(name: str, **keys: Any) -> PythonJudge:
    return PythonJudge(kind="python", target=f"{__name__}:{name}", **keys)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bert(tmp_path_factory.mktemp("judges") / "bert")


def embedding_config(directory: Path, **keys: Any) -> EmbeddingJudge:
    return EmbeddingJudge(kind="embedding", model=str(directory), max_tokens=keys.pop("max_tokens", 64), **keys)


def chat_config(**keys: Any) -> ChatJudge:
    endpoint = EndpointConfig(base_url="http://judge/v1", model="m", temperature=1.0)
    return ChatJudge(kind="chat", endpoint=endpoint, **keys)


LENGTH = ProgramJudge(kind="program", by=LengthProgram(kind="length", target=3))
VERDICT_TOKENS = VerdictTokensJudge(kind="verdict_tokens", model="any")


def candidate(text: str) -> Candidate:
    return Candidate(id=f"c{abs(hash(text))}", text=text)


async def ask(judge: Judge, first: str, second: str, prompt: Prompt = PROMPT) -> float:
    verdict = await judge.compare(prompt, candidate(first), candidate(second))
    assert isinstance(verdict, Verdict)
    assert verdict.failure is None
    assert isinstance(verdict.value, float)
    return verdict.value


# --- the contract, for every judge ------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], Judge]] = {
    "embedding": lambda bert: build_judge(embedding_config(bert)),
    "embedding, field": lambda bert: build_judge(embedding_config(bert, reference_field="topic", batch_size=2)),
    "likelihood": lambda bert: build_judge(
        LikelihoodJudge(kind="likelihood", model=str(build_tiny_model(bert.parent / "llama")), max_tokens=16)
    ),
    "verdict_tokens": lambda bert: build_judge(VERDICT_TOKENS, token_scorer=LongerIsLikelier(0.3)),
    "python": lambda bert: build_judge(python_config("longer_wins", symmetric=True)),
    "python, async": lambda bert: build_judge(python_config("async_score", verdict="score")),
    "verdict_tokens, calibrated": lambda bert: build_judge(
        VerdictTokensJudge(kind="verdict_tokens", model="any", verdict="probability", temperature=2.0),
        token_scorer=LongerIsLikelier(0.3),
    ),
    "chat": lambda bert: build_judge(chat_config(), completer=FakeCompleter(longer_is_better)),
    "chat, probability": lambda bert: build_judge(
        chat_config(reply="probability", votes=3), completer=FakeCompleter(longer_is_better)
    ),
    "chat, scores": lambda bert: build_judge(chat_config(reply="scores"), completer=FakeCompleter(longer_is_better)),
    "reward_model": lambda bert: build_judge(
        RewardModelJudge(kind="reward_model", model=str(build_tiny_scalar(bert.parent / "scalar")))
    ),
    "reward_model, embedding": lambda bert: build_judge(
        RewardModelJudge(
            kind="reward_model",
            head="preference_embedding",
            model=str(build_tiny_preference(bert.parent / "preference")),
        )
    ),
    "rubric": lambda bert: build_judge(rubric_config(), completer=Scripted(deeper_is_longer)),
    "rubric, hard": lambda bert: build_judge(rubric_config(verdict="hard"), completer=Scripted(deeper_is_longer)),
    "rubric, written": lambda bert: build_judge(
        rubric_config(criteria_from="prompt"), completer=Scripted(writes_then_compares)
    ),
    "program": lambda bert: build_judge(LENGTH),
    "program, score": lambda bert: build_judge(LENGTH.model_copy(update={"verdict": "score"})),
    "panel": lambda bert: build_judge(
        PanelJudge(
            kind="panel",
            members=(PanelMember(judge=LENGTH, weight=2.0), PanelMember(judge=chat_config(reply="probability"))),
        ),
        completer=FakeCompleter(longer_is_better),
    ),
    "python, class": lambda bert: build_judge(python_config("HardClass", verdict="hard", symmetric=True)),
}


@pytest.fixture(params=MAKERS)
async def judge(request: pytest.FixtureRequest, bert: Path) -> AsyncIterator[Judge]:
    made = MAKERS[request.param](bert)
    yield made
    await made.close()


def test_every_kind_has_a_builder_and_is_under_contract() -> None:
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(get_args(JudgeConfig)[0])}
    assert kinds == set(BUILDERS) == {name.partition(",")[0] for name in MAKERS}


async def test_judge_says_what_it_is(judge: Judge) -> None:
    assert judge.name
    assert judge.kind in ("hard", "probability", "score")
    assert isinstance(judge.symmetric, bool)


async def test_verdicts_are_in_the_range_of_their_kind_and_repeatable(judge: Judge) -> None:
    for first, second in itertools.product(ANSWERS, repeat=2):
        value = await ask(judge, first, second)
        assert math.isfinite(value)
        if judge.kind != "score":
            assert 0 <= value <= 1
        if judge.kind == "hard":
            assert value in (0, 0.5, 1)
        assert await ask(judge, first, second) == pytest.approx(value, abs=1e-6)


async def test_symmetric_judges_turn_with_the_order(judge: Judge) -> None:
    for first, second in itertools.combinations_with_replacement(ANSWERS, 2):
        one, other = await ask(judge, first, second), await ask(judge, second, first)
        if judge.symmetric:
            assert one == pytest.approx(-other if judge.kind == "score" else 1 - other, abs=1e-6)


async def test_many_calls_at_once_agree_with_one_by_one(judge: Judge) -> None:
    pairs = list(itertools.permutations(ANSWERS, 2))
    together = await asyncio.gather(*(ask(judge, first, second) for first, second in pairs))
    alone = [await ask(judge, first, second) for first, second in pairs]
    assert together == pytest.approx(alone, abs=1e-5)


async def test_closing_twice_is_closing_once(judge: Judge) -> None:
    await ask(judge, "one", "two")
    await judge.close()
    await judge.close()


# --- embedding --------------------------------------------------------------------------------------------------


class CountingEncoder:
    """Unit vectors out of letters a, b and c; it counts batches and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        self.go.set()

    def encode(self, texts: Sequence[str]) -> FloatArray:
        self.batches.append(list(texts))
        self.threads.add(threading.get_ident())
        assert self.go.wait(10)
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32)
        with np.errstate(invalid="ignore"):
            return counts / np.linalg.norm(counts, axis=1, keepdims=True)


async def test_embedding_by_hand() -> None:
    judge = Embedding("e", CountingEncoder())
    prompt = Prompt("p", "aab")  # (2, 1, 0) / sqrt 5
    assert await ask(judge, "a", "c", prompt) == pytest.approx(2 / math.sqrt(5))
    assert await ask(judge, "c", "b", prompt) == pytest.approx(-1 / math.sqrt(5))
    assert await ask(judge, "ab", "a", prompt) == pytest.approx(3 / math.sqrt(10) - 2 / math.sqrt(5))
    assert await ask(judge, "abc", "abc", prompt) == 0.0
    await judge.close()


async def test_texts_asked_for_while_a_batch_is_at_work_make_one_batch() -> None:
    encoder = CountingEncoder()
    encoder.go.clear()
    judge = Embedding("e", encoder)
    prompt = Prompt("p", "a")
    calls = [asyncio.create_task(ask(judge, "b", "c", prompt))]
    while not encoder.batches:
        await asyncio.sleep(0.001)
    texts = ["a" * count + "b" for count in range(1, 9)]
    calls += [asyncio.create_task(ask(judge, *pair, prompt)) for pair in itertools.combinations(texts, 2)]
    await asyncio.sleep(0)
    encoder.go.set()
    await asyncio.gather(*calls)
    assert encoder.batches == [["a", "b", "c"], texts]
    assert len(encoder.threads) == 1
    assert threading.get_ident() not in encoder.threads
    await judge.close()


async def test_cache_is_bounded_and_forgets_the_least_used() -> None:
    encoder = CountingEncoder()
    judge = Embedding("e", encoder, max_cached_texts=4)
    prompt = Prompt("p", "a")
    await ask(judge, "b", "c", prompt)
    await ask(judge, "ab", "b", prompt)
    await ask(judge, "ac", "b", prompt)  # "c" is the least recently used of five
    await ask(judge, "b", "ab", prompt)
    assert encoder.batches == [["a", "b", "c"], ["ab"], ["ac"]]
    await ask(judge, "b", "c", prompt)
    assert encoder.batches[3:] == [["c"]]
    await judge.close()


async def test_cache_smaller_than_one_call_still_answers() -> None:
    judge = Embedding("e", CountingEncoder(), max_cached_texts=1)
    assert await ask(judge, "a", "b", Prompt("p", "a")) == pytest.approx(1.0)
    await judge.close()


async def test_vectors_that_are_not_finite_are_a_failed_call() -> None:
    judge = Embedding("e", CountingEncoder())
    with pytest.raises(JudgeFailure) as caught:
        await ask(judge, "zzz", "a", Prompt("p", "a"))
    assert (caught.value.cause, caught.value.retryable) == ("bad_reply", False)
    assert await ask(judge, "a", "b", Prompt("p", "a")) == pytest.approx(1.0)
    await judge.close()


async def test_a_bug_in_the_encoder_reaches_everyone_who_waits() -> None:
    class Broken:
        def encode(self, texts: Sequence[str]) -> FloatArray:
            raise ZeroDivisionError

    judge = Embedding("e", Broken())
    results = await asyncio.gather(*(ask(judge, "a", str(number)) for number in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 3
    await judge.close()


async def test_close_joins_the_thread_and_cancels_calls_that_wait() -> None:
    encoder = CountingEncoder()
    encoder.go.clear()
    judge = Embedding("close-me", encoder)
    calls = [asyncio.create_task(ask(judge, "a", text, Prompt("p", "a"))) for text in ("b", "c")]
    while not encoder.batches:
        await asyncio.sleep(0.001)
    closing = asyncio.create_task(judge.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    encoder.go.set()
    await closing
    assert not any(thread.ident in encoder.threads for thread in threading.enumerate())
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[0] == pytest.approx(1.0)
    assert isinstance(results[1], asyncio.CancelledError)


async def test_reference_field_that_is_not_there_names_the_nearest(bert: Path) -> None:
    judge = build_judge(embedding_config(bert, reference_field="txt"))
    with pytest.raises(UserError, match=r"reference_field: prompt p1 has no field 'txt'; did you mean 'text'\?"):
        await ask(judge, "a", "b")
    await judge.close()


def test_a_vector_does_not_depend_on_the_batch(bert: Path) -> None:
    texts = ["a", "the sea is wide", "x" * 300, "", "b c d", "the sea is wide and blue and deep"]
    alone = SentenceEncoder(bert, max_tokens=32, batch_size=1).encode(texts)
    for batch_size in (2, 3, 64):
        together = SentenceEncoder(bert, max_tokens=32, batch_size=batch_size).encode(texts[::-1])[::-1]
        np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1.0, atol=1e-5)
    assert alone.shape == (6, 32)


def test_mean_pooling_against_a_slow_oracle(bert: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModel.from_pretrained(bert).eval()
    text = "the sea is wide"
    with torch.inference_mode():
        tokens = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
    mean = np.add.reduce(list(tokens)) / len(tokens)
    expected = mean / math.sqrt(sum(float(x) ** 2 for x in mean))
    vectors = SentenceEncoder(bert, max_tokens=64, batch_size=8).encode([text, "a much longer text about it"])
    np.testing.assert_allclose(vectors[0], expected, atol=1e-5)


def test_long_texts_are_cut(bert: Path) -> None:
    encoder = SentenceEncoder(bert, max_tokens=16, batch_size=8)
    vectors = encoder.encode(["a b c d " * 10, "a b c d " * 20, "a b c d"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-3)


def test_models_that_cannot_be_used_are_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"judge\.max_tokens = 65: .* reads at most 64 tokens"):
        build_judge(embedding_config(bert, max_tokens=65))
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        build_judge(embedding_config(tmp_path / "nowhere"))
    assert "\n" not in str(caught.value)
    build_tiny_bert(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": false}')
    with pytest.raises(UserError, match="does not pool by the mean"):
        build_judge(embedding_config(tmp_path))


async def test_model_names_are_resolved_by_whoever_builds(bert: Path) -> None:
    judge = build_judge(embedding_config(Path("package:x")), resolve_model={"package:x": bert}.__getitem__)
    assert judge.name == "embedding:package:x"
    await judge.close()


@pytest.mark.slow
async def test_the_real_model_knows_what_a_text_is_about() -> None:
    from rollouts.models import resolve_model

    config = EmbeddingJudge(kind="embedding", model="package:all-minilm-l6-v2", reference_field="text")
    judge = build_judge(config, resolve_model=resolve_model)
    prompt = Prompt("p", "Write a headline.", fields={"text": "Rain flooded the town and people left their homes."})
    about, beside, other = "Floods force residents to flee", "The weather was bad", "Striker signs a new contract"
    assert await ask(judge, about, beside, prompt) > 0.05
    assert await ask(judge, beside, other, prompt) > 0.05
    assert await ask(judge, about, other, prompt) == pytest.approx(
        await ask(judge, about, beside, prompt) + await ask(judge, beside, other, prompt), abs=1e-6
    )
    await judge.close()


# --- verdict tokens ---------------------------------------------------------------------------------------------


async def test_verdict_tokens_asks_once_and_gives_the_difference() -> None:
    scorer = LongerIsLikelier(shift=0.25)
    config = VERDICT_TOKENS.model_copy(update={"criteria": "Which is longer?", "choices": (" A", " B")})
    judge = build_judge(config, token_scorer=scorer)
    verdict = await judge.compare(PROMPT, candidate("four"), candidate("two"))
    assert verdict.value == pytest.approx(0.1 + 0.25)
    assert verdict.tokens_in == 7
    [(messages, _, choices)] = scorer.asked
    assert choices == (" A", " B")
    trusted = " ".join(span.text for message in messages for span in message.spans if not span.is_data)
    assert "Which is longer?" in trusted
    data = [span.text for message in messages for span in message.spans if span.is_data]
    assert data == [PROMPT.text, "four", "two"]


@pytest.mark.parametrize("shift", [math.inf, -math.inf, math.nan])
async def test_verdict_tokens_without_finite_logprobs_is_a_failed_call(shift: float) -> None:
    judge = build_judge(VERDICT_TOKENS, token_scorer=LongerIsLikelier(shift))
    with pytest.raises(JudgeFailure) as caught:
        await ask(judge, "a", "b")
    assert (caught.value.cause, caught.value.retryable) == ("bad_reply", False)


async def test_verdict_tokens_passes_failures_on() -> None:
    class Down:
        async def choice_logprobs(
            self, messages: Sequence[Message], prefill: str, choices: Sequence[str]
        ) -> ChoiceScores:
            raise JudgeFailure("connection")

    with pytest.raises(JudgeFailure, match="connection"):
        await ask(build_judge(VERDICT_TOKENS, token_scorer=Down()), "a", "b")


def test_verdict_tokens_template_faults_are_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("# user\n{prompt} {first} {secnd}")
    config = VERDICT_TOKENS.model_copy(update={"template": "mine.md"})
    with pytest.raises(UserError, match=r"mine\.md:2: unknown placeholder \{secnd\}; did you mean 'second'"):
        build_judge(config, token_scorer=LongerIsLikelier(), base_dir=tmp_path)


def test_verdict_tokens_without_a_scorer_is_a_bug() -> None:
    with pytest.raises(ValueError, match="token_scorer"):
        build_judge(VERDICT_TOKENS)


async def test_verdict_tokens_as_a_calibrated_probability() -> None:
    config = VerdictTokensJudge(kind="verdict_tokens", model="any", verdict="probability", temperature=0.5)
    judge = build_judge(config, token_scorer=LongerIsLikelier(shift=0.25))
    assert judge.kind == "probability"
    # d = 0.1 + 0.25 over a temperature of 0.5.
    assert await ask(judge, "four", "two") == pytest.approx(1 / (1 + math.exp(-0.35 / 0.5)))
    assert 0.0 <= await ask(build_judge(config, token_scorer=LongerIsLikelier(shift=1e6)), "a", "b") <= 1.0
    for keys in ({"verdict": "probability"}, {"temperature": 1.0}):
        with pytest.raises(ValidationError, match="state it with"):
            VerdictTokensJudge.model_validate({"kind": "verdict_tokens", "model": "any", **keys})


# --- python -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("hard", 0.7),
        ("hard", -1),
        ("probability", 1.01),
        ("probability", -0.01),
        ("probability", math.nan),
        ("score", math.nan),
        ("score", math.inf),
        ("score", "better"),
        ("probability", [0.5]),
    ],
)
async def test_values_that_the_kind_does_not_allow_name_the_target(kind: Any, value: Any) -> None:
    RETURNS["value"] = value
    with pytest.raises(UserError, match=rf"judge '{__name__}:returns' returned .* a {kind} verdict is"):
        await ask(build_judge(python_config("returns", verdict=kind)), "a", "b")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [("hard", True, 1.0), ("hard", 0, 0.0), ("probability", np.float32(0.25), 0.25), ("score", -7, -7.0)],
)
async def test_values_of_every_number_type_pass(kind: Any, value: Any, expected: float) -> None:
    RETURNS["value"] = value
    assert await ask(build_judge(python_config("returns", verdict=kind)), "a", "b") == expected


@pytest.mark.parametrize("value", [None, Verdict(None, failure="timeout")])
async def test_none_is_no_verdict(value: Any) -> None:
    RETURNS["value"] = value
    with pytest.raises(JudgeFailure) as caught:
        await ask(build_judge(python_config("returns")), "a", "b")
    assert caught.value.cause == "empty"


async def test_a_verdict_of_its_own_may_speak_of_criteria() -> None:
    judge = build_judge(python_config("returns"))
    RETURNS["value"] = Verdict(0.75, reason="clearer", tokens_in=5, criteria={"clear": 1, "short": -0.5})
    said = await judge.compare(PROMPT, candidate("a"), candidate("b"))
    assert said == Verdict(0.75, reason="clearer", tokens_in=5, criteria={"clear": 1.0, "short": -0.5})
    for wrong in (Verdict(1.5), Verdict(0.5, criteria={"clear": 1.5}), Verdict(0.5, criteria={"clear": math.nan})):
        RETURNS["value"] = wrong
        with pytest.raises(UserError, match=rf"judge '{__name__}:returns' (returned|says) .*[1n]"):
            await ask(judge, "a", "b")


def test_a_python_judge_is_called_what_its_recipe_says() -> None:
    config = python_config("longer_wins")
    assert build_judge(config).name == judge_name(config)


async def test_class_is_closed_once() -> None:
    HardClass.closed = 0
    judge = build_judge(python_config("HardClass", verdict="hard"))
    await judge.close()
    await judge.close()
    assert HardClass.closed == 1


def two_at_once(first: Candidate, second: Candidate) -> float:
    return 0.5


class RanksNobody:
    def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> float:
        return 0.5

    def rank(self, prompt: Prompt) -> list[int]:
        return []


@pytest.mark.parametrize(
    ("name", "keys", "fault"),
    [
        (
            "two_at_once",
            {},
            "two_at_once' cannot be called with (prompt, first, second): too many positional arguments",
        ),
        ("RanksNobody", {"ranks": True}, "RanksNobody' cannot be called with (prompt, candidates): too many"),
    ],
)
def test_a_target_that_wants_other_arguments_is_refused(name: str, keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=re.escape(fault)):
        build_judge(python_config(name, **keys))


@pytest.mark.parametrize(("name", "fault"), [("NoJudge", "a class without a method"), ("ANSWERS", "no function")])
def test_targets_that_are_no_judge_are_refused(name: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        build_judge(python_config(name))
