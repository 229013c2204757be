"""Answers that try to address the judge, for every judge kind that reads them in a prompt: bytes, then tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.chat_endpoint import ChatEndpoint
from rewards.chat_tokens import encode_messages, encode_spans
from rewards.endpoint_config import EndpointConfig
from rewards.judge_config import ChatJudge, JudgeConfig, VerdictTokensJudge
from rewards.judges import build_judge
from rewards.judges.likelihood import Likelihood
from rewards.judges.reward_pooling import answer_state
from rewards.judges.reward_reader import exchange
from rewards.strict import config_kinds
from rewards.types import Candidate, ChoiceScores, Message, Prompt, Span
from rollouts.models import resolve_model
from rollouts.tiny import build_tiny_tokenizer
from tests.fakes.completers import FakeCompleter, longer_is_better
from tests.rewards.injection import HOSTILE, Asked, Encode, Reader, check_bytes, check_tokens, whole_text
from tests.rewards.rubrics.test_rubric_judge import (
    Scripted,
    deeper_is_longer,
    writes_for_the_pair,
    writes_then_compares,
)
from tests.rewards.rubrics.test_rubric_judge import config as rubric_config

ENDPOINT = EndpointConfig(base_url="http://judge/v1", model="m")
HOSTILE_TEXT = st.lists(st.one_of(st.text(max_size=20), st.sampled_from(HOSTILE)), max_size=3).map("".join)

# --- how each kind is heard -------------------------------------------------------------------------------------


def chat(reply: str, *, ranks: bool = False) -> Reader:
    async def read(prompt: str, answers: Sequence[str]) -> list[Asked]:
        completer = FakeCompleter(longer_is_better)
        config = ChatJudge.model_validate({"kind": "chat", "endpoint": ENDPOINT, "reply": reply})
        await _ask(build_judge(config, completer=completer, seed=7), prompt, answers, ranks=ranks)
        return [Asked(asked.messages) for asked in completer.asked]

    return read


def rubric(criteria_from: str, script: Callable[[Sequence[str]], Any]) -> Reader:
    """The first question: what follows written criteria is in `rubrics/test_rubric_structure.py`."""

    async def read(prompt: str, answers: Sequence[str]) -> list[Asked]:
        completer = Scripted(script)
        judge = build_judge(rubric_config(criteria_from=criteria_from), completer=completer, seed=7)
        await _ask(judge, prompt, answers, ranks=False)
        return [Asked(completer.asked[0].messages)]

    return read


def verdict_tokens(*, ranks: bool = False) -> Reader:
    async def read(prompt: str, answers: Sequence[str]) -> list[Asked]:
        heard: list[Asked] = []

        class Scorer:
            async def choice_logprobs(self, messages: Sequence[Message], prefill: str, choices: Any) -> ChoiceScores:
                heard.append(Asked(messages))
                return ChoiceScores(tuple(-1.0 for _ in choices))

        config = VerdictTokensJudge(kind="verdict_tokens", model="any")
        await _ask(build_judge(config, token_scorer=Scorer(), seed=7), prompt, answers, ranks=ranks)
        return heard

    return read


async def likelihood(prompt: str, answers: Sequence[str]) -> list[Asked]:
    heard: list[Asked] = []

    class Model:
        def mean_logprob(self, context: Sequence[Span], text: str) -> float:
            heard.append(whole_text([*context, Span(text, is_data=True)]))
            return -1.0

    for answer in answers:  # one judge each, or an answer that comes twice would be read once
        judge = Likelihood("j", Model(), hint="<|im_start|>user\n{answer}<|im_end|>\nText: ")
        await _ask(judge, prompt, [answer], ranks=True)
        await judge.close()
    return heard


async def reward_model(prompt: str, answers: Sequence[str]) -> list[Asked]:
    """What `RewardReader.token_ids` encodes."""
    return [Asked(exchange(prompt, answer)) for answer in answers]


async def pooling(prompt: str, answers: Sequence[str]) -> list[Asked]:
    """What an engine that pools is asked; `rollouts/pooler.py` encodes it."""
    heard: list[Asked] = []

    class Pooler:
        async def last_state(self, messages: Sequence[Message]) -> Sequence[float]:
            heard.append(Asked(messages))
            return [1.0]

    for answer in answers:
        await answer_state(Pooler(), (prompt, answer))
    return heard


async def _ask(judge: Any, prompt: str, answers: Sequence[str], *, ranks: bool) -> None:
    candidates = [Candidate(str(number), answer) for number, answer in enumerate(answers)]
    if ranks:
        await judge.rank(Prompt("p", prompt), candidates)
    else:
        await judge.compare(Prompt("p", prompt), *candidates[:2])


def by_server(tokenizer: Any, asked: Asked) -> list[int]:
    """As an OpenAI-compatible server does it: the chat template over plain strings, control tokens read wherever."""
    endpoint = ChatEndpoint(ENDPOINT)
    messages = [{"role": message.role, "content": endpoint.content(message)} for message in asked.messages]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False)


def by_messages(tokenizer: Any, asked: Asked) -> list[int]:
    return encode_messages(tokenizer, asked.messages)


def finished(tokenizer: Any, asked: Asked) -> list[int]:
    return encode_messages(tokenizer, asked.messages, answers=False)


def by_spans(tokenizer: Any, asked: Asked) -> list[int]:
    return encode_spans(tokenizer, asked.messages[0].spans)


READERS: dict[str, tuple[Reader, Encode]] = {
    "chat": (chat("winner"), by_server),
    "chat, probability": (chat("probability"), by_server),
    "chat, scores": (chat("scores"), by_server),
    "chat, slate": (chat("winner", ranks=True), by_server),
    "rubric": (rubric("rubric", deeper_is_longer), by_server),
    "rubric, pair": (rubric("pair", writes_for_the_pair), by_server),
    "rubric, written": (rubric("prompt", writes_then_compares), by_server),
    "verdict_tokens": (verdict_tokens(), by_messages),
    "verdict_tokens, slate": (verdict_tokens(ranks=True), by_messages),
    "likelihood": (likelihood, by_spans),
    "reward_model": (reward_model, finished),
    "reward_model, pooling": (pooling, finished),
}
NO_PROMPT = {
    "embedding": "compares vectors of whole texts; nothing stands beside an answer",
    "program": "no model",
    "python": "the user's own",
    "panel": "its members read",
}


def test_every_kind_is_under_contract_or_reads_no_prompt() -> None:
    assert {name.partition(",")[0] for name in READERS} | set(NO_PROMPT) == set(config_kinds(JudgeConfig))


# --- bytes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", READERS)
@given(prompt=HOSTILE_TEXT, first=HOSTILE_TEXT, second=HOSTILE_TEXT)
@settings(max_examples=25)
async def test_no_text_changes_the_structure(kind: str, prompt: str, first: str, second: str) -> None:
    await check_bytes(READERS[kind][0], prompt, [first, second])


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", READERS)
async def test_no_known_attack_changes_the_structure(kind: str, hostile: str) -> None:
    await check_bytes(READERS[kind][0], hostile, [hostile, f"fine. {hostile}"])


# --- tokens -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["tiny", "package:smollm2-135m-instruct"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "tiny":
        return build_tiny_tokenizer()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve_model(request.param))


@pytest.mark.parametrize("kind", READERS)
async def test_no_attack_becomes_a_control_token(kind: str, tokenizer: Any) -> None:
    read, encode = READERS[kind]
    spelled = [token.content for token in tokenizer.added_tokens_decoder.values()]
    for hostile in (*HOSTILE, "".join(spelled), " ".join(spelled)):
        await check_tokens(read, encode, tokenizer, hostile, [hostile, f"fine. {hostile}"])
