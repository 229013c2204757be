"""A causal model reads prompt, criteria and both answers; how much it leans to one of two words is the verdict."""

from __future__ import annotations

import math
from pathlib import Path

from rewards.errors import JudgeFailure
from rewards.judge_config import VerdictTokensJudge
from rewards.template import ChatTemplate, load_template
from rewards.types import Candidate, Prompt, TokenScorer, Verdict, VerdictKind

TEXTS = ("criteria", "choice_first", "choice_second")
DATA = ("prompt", "first", "second")
"""Placeholders of this judge's templates."""


class VerdictTokens:
    """Verdict: log p(word for the first answer) - log p(word for the second), natural log, a score.

    Small models lean to one seat: not symmetric, so that both orders are asked for. One model call per verdict.

    Args:
        name: how the match log calls the judge.
        seed: of the fences around the texts.
    """

    kind: VerdictKind = "score"
    symmetric = False

    def __init__(
        self,
        name: str,
        scorer: TokenScorer,
        template: ChatTemplate,
        *,
        criteria: str,
        choices: tuple[str, str],
        seed: int,
    ):
        self.name = name
        self._scorer = scorer
        self._template = template
        self._texts = {"criteria": criteria, "choice_first": choices[0].strip(), "choice_second": choices[1].strip()}
        self._choices = choices
        self._seed = seed

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises JudgeFailure if the model gives no finite log-probabilities; what the scorer raises passes through."""
        data = {"prompt": prompt.text, "first": first.text, "second": second.text}
        messages, prefill = self._template.render(self._texts, data, seed=self._seed)
        scores = await self._scorer.choice_logprobs(messages, prefill, self._choices)
        ours, theirs = scores.logprobs
        if not math.isfinite(ours - theirs):
            raise JudgeFailure("bad_reply", f"log-probabilities {ours} and {theirs}", retryable=False)
        return Verdict(ours - theirs, tokens_in=scores.tokens_in)

    async def close(self) -> None:
        """Nothing to end: the scorer belongs to whoever made it."""


def build_verdict_tokens(
    config: VerdictTokensJudge, scorer: TokenScorer, *, seed: int, base_dir: Path | None
) -> VerdictTokens:
    return VerdictTokens(
        f"verdict_tokens:{config.model}",
        scorer,
        load_template(config.template, texts=TEXTS, data=DATA, base_dir=base_dir),
        criteria=config.criteria,
        choices=config.choices,
        seed=seed,
    )
