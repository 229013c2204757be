"""The likelihood judge: what it counts, how often it asks its model, and the model's arithmetic."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from rewards.errors import JudgeFailure, UserError
from rewards.judges.causal_model import CausalModel
from rewards.judges.likelihood import Likelihood
from rewards.types import Candidate, Prompt, Span
from rollouts.tiny import build_tiny_model

PROMPT = Prompt(id="p", text="the task", fields={"text": "the reference"})


class Recorder:
    """A text model that scores a context by its length and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def mean_logprob(self, context: Sequence[Span], text: str) -> float:
        whole = "".join(span.text for span in context)
        assert all(span.is_data == (span.text in ("x" * n for n in range(1, 10))) for span in context if span.text)
        self.asked.append((whole, text))
        return -1.0 / len(whole)


async def test_each_answer_is_read_once_and_the_verdict_is_the_difference() -> None:
    model = Recorder()
    judge = Likelihood("j", model, hint="H {answer}: ", reference_field="text")
    short, middle, long = (Candidate(str(n), "x" * n) for n in (1, 5, 9))
    pairs = [(short, middle), (middle, long), (long, short)]
    verdicts = await asyncio.gather(*(judge.compare(PROMPT, first, second) for first, second in pairs))
    await judge.close()
    expected = [1 / 9 - 1 / 5, 1 / 13 - 1 / 9, 1 / 5 - 1 / 13]  # contexts are 4 characters longer than the answers
    assert [verdict.value for verdict in verdicts if verdict.value is not None] == pytest.approx(expected)
    assert sorted(model.asked) == sorted((f"H {one.text}: ", "the reference") for one in (short, middle, long))


async def test_giving_up_on_one_compare_takes_the_answer_from_no_other() -> None:
    go_on = threading.Event()

    class Slow(Recorder):
        def mean_logprob(self, context: Sequence[Span], text: str) -> float:
            assert go_on.wait(timeout=30)
            return super().mean_logprob(context, text)

    model = Slow()
    judge = Likelihood("j", model, hint="{answer}")
    shared, one, other = (Candidate(str(n), "x" * n) for n in (2, 4, 8))
    given_up = asyncio.create_task(judge.compare(PROMPT, shared, one))
    waiting = asyncio.create_task(judge.compare(PROMPT, shared, other))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    go_on.set()
    assert (await waiting).value == pytest.approx(1 / 8 - 1 / 2)
    assert (await judge.compare(PROMPT, shared, one)).value == pytest.approx(1 / 4 - 1 / 2)
    assert len(model.asked) == 3
    await judge.close()


async def test_a_failure_is_not_kept() -> None:
    class FailsOnce(Recorder):
        def mean_logprob(self, context: Sequence[Span], text: str) -> float:
            value = super().mean_logprob(context, text)
            if len(self.asked) == 1:
                raise JudgeFailure("bad_reply", "the first time")
            return value

    judge = Likelihood("j", FailsOnce(), hint="{answer}")
    pair = Candidate("a", "x"), Candidate("b", "xx")
    with pytest.raises(JudgeFailure, match="the first time"):
        await judge.compare(PROMPT, *pair)
    assert (await judge.compare(PROMPT, *pair)).value == pytest.approx(1 / 2 - 1)
    await judge.close()


async def test_only_so_many_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.judges.kept.MAX_KEPT", 2)
    model = Recorder()
    judge = Likelihood("j", model, hint="{answer}")
    first, second, third = (Candidate(str(n), "x" * n) for n in (1, 2, 3))
    for pair in ((first, second), (second, third), (second, third), (first, third)):
        await judge.compare(PROMPT, *pair)
    assert [len(context) for context, _ in model.asked] == [1, 2, 3, 1]
    await judge.close()


async def test_an_unknown_field_names_the_nearest() -> None:
    judge = Likelihood("j", Recorder(), hint="{answer}", reference_field="txt")
    with pytest.raises(UserError, match="no field 'txt'; did you mean 'text'"):
        await judge.compare(PROMPT, Candidate("a", "a"), Candidate("b", "b"))
    await judge.close()


async def test_numbers_that_are_not_finite_are_no_verdict() -> None:
    class Broken:
        def mean_logprob(self, context: Sequence[Span], text: str) -> float:
            return math.nan

    judge = Likelihood("j", Broken(), hint="{answer}")
    with pytest.raises(JudgeFailure, match="not finite"):
        await judge.compare(PROMPT, Candidate("a", "a"), Candidate("b", "b"))
    await judge.close()
    await judge.close()


def test_the_model_agrees_with_a_pass_over_the_whole_text(tmp_path: Path) -> None:
    build_tiny_model(tmp_path, seed=0, dtype="float32")
    model = CausalModel(tmp_path, max_tokens=6)
    context, text = "Summary: rain on the hills\n\n", "the river rose and the bridge was closed"
    before = model._tokenizer.encode(context, add_special_tokens=False)
    tokens = model._tokenizer.encode(text, add_special_tokens=False)[:6]
    logits = model._model(torch.tensor([before + tokens])).logits[0].float()
    logprobs = torch.log_softmax(logits, dim=-1)
    slow = sum(logprobs[len(before) - 1 + at, token].item() for at, token in enumerate(tokens)) / 6
    assert model.mean_logprob([Span(context)], text) == pytest.approx(slow, abs=1e-3)
    with pytest.raises(JudgeFailure, match="no tokens"):
        model.mean_logprob([Span(context)], "")
