"""A causal model reads prompt, criteria and answers; how much it leans to each of a few words is what it says.

two answers       log p(word for the first) - log p(word for the second)     a score, or by a temperature a probability
up to 16 at once  log p(label is the best), higher is better                 places
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rewards.errors import JudgeFailure
from rewards.judge_config import VerdictTokensJudge, judge_name
from rewards.judges.places import places_of
from rewards.list_template import ListTemplate, load_list_template
from rewards.template import ChatTemplate, load_template
from rewards.types import Candidate, Places, Prompt, TokenScorer, Verdict, VerdictKind

TEXTS = ("criteria", "choice_first", "choice_second")
DATA = ("prompt", "first", "second")
"""Placeholders of the template for pairs."""

LIST_TEXTS = ("criteria", "labels")
LIST_DATA = ("prompt",)
"""Placeholders of the template for slates, beside those of `rewards/list_template.py`."""


class VerdictTokens:
    """Verdict: d = log p(word for the first answer) - log p(word for the second), natural log, a score; with a
    temperature sigmoid(d / temperature), a probability.

    Small models lean to one seat: not symmetric, so that both orders are asked for. One model call per verdict.
    A slate is one model call too: the label that is likeliest to be the best is placed first, and so on down. It is
    asked about the best one only, so places far down say less than the first.

    Args:
        name: how the match log calls the judge.
        labels: one-token names of the answers of a slate, in the order shown; at least as many as it has.
        temperature: what calibrates the judge; None: its number stays a score.
        seed: of the fences around the texts.
    """

    symmetric = False

    def __init__(
        self,
        name: str,
        scorer: TokenScorer,
        template: ChatTemplate,
        list_template: ListTemplate,
        *,
        criteria: str,
        choices: tuple[str, str],
        labels: tuple[str, ...],
        seed: int,
        temperature: float | None = None,
    ):
        self.name = name
        self.kind: VerdictKind = "score" if temperature is None else "probability"
        self._temperature = temperature
        self._scorer = scorer
        self._template = template
        self._texts = {"criteria": criteria, "choice_first": choices[0].strip(), "choice_second": choices[1].strip()}
        self._choices = choices
        self._list_template = list_template
        self._labels = labels
        self._seed = seed

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises JudgeFailure if the model gives no finite log-probabilities; what the scorer raises passes through."""
        data = {"prompt": prompt.text, "first": first.text, "second": second.text}
        messages, prefill = self._template.render(self._texts, data, seed=self._seed)
        scores = await self._scorer.choice_logprobs(messages, prefill, self._choices)
        ours, theirs = scores.logprobs
        if not math.isfinite(ours - theirs):
            raise JudgeFailure("bad_reply", f"log-probabilities {ours} and {theirs}", retryable=False)
        value = ours - theirs
        if self._temperature is not None:
            value = 0.5 + 0.5 * math.tanh(value / self._temperature / 2.0)  # the sigmoid that cannot overflow
        return Verdict(value, tokens_in=scores.tokens_in)

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        """Raises as `compare`."""
        choices = self._labels[: len(candidates)]
        labels = [choice.strip() for choice in choices]
        texts = {"criteria": self._texts["criteria"], "labels": ", ".join(labels)}
        items = [(label, candidate.text) for label, candidate in zip(labels, candidates, strict=True)]
        messages, prefill = self._list_template.render(texts, {"prompt": prompt.text}, items, seed=self._seed)
        scores = await self._scorer.choice_logprobs(messages, prefill, choices)
        if not all(map(math.isfinite, scores.logprobs)):
            raise JudgeFailure("bad_reply", f"log-probabilities {list(scores.logprobs)}", retryable=False)
        return Places(places_of(scores.logprobs), tokens_in=scores.tokens_in)

    async def close(self) -> None:
        """Nothing to end: the scorer belongs to whoever made it."""


def build_verdict_tokens(
    config: VerdictTokensJudge, scorer: TokenScorer, *, seed: int, base_dir: Path | None
) -> VerdictTokens:
    return VerdictTokens(
        judge_name(config),
        scorer,
        load_template(config.template, texts=TEXTS, data=DATA, base_dir=base_dir),
        load_list_template(config.list_template, texts=LIST_TEXTS, data=LIST_DATA, base_dir=base_dir),
        criteria=config.criteria,
        choices=config.choices,
        labels=config.labels,
        seed=seed,
        temperature=config.temperature,
    )
