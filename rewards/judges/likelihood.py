"""The answer under which a causal model finds a reference text more likely wins.

    compare --> strength(reference, answer), each worked out once (`kept.py`): a forward pass of the model

N answers cost N forward passes for their N(N-1)/2 matches. A judge of another kind than an embedding: it reads the
answer as a hint and asks how much of the text the hint gives away. Ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rewards.errors import JudgeFailure
from rewards.judge_config import LikelihoodJudge, judge_name
from rewards.judges.causal_model import CausalModel
from rewards.judges.kept import Kept
from rewards.judges.places import places_of
from rewards.judges.references import reference_of
from rewards.types import Candidate, Places, Prompt, Span, Verdict, VerdictKind


class TextModel(Protocol):
    def mean_logprob(self, context: Sequence[Span], text: str) -> float: ...


class Likelihood:
    """Verdict: mean logprob per token of the reference after `first` minus that after `second`, in nats; symmetric.

    Args:
        name: how the match log calls the judge.
        model: used from one thread of ours.
        hint: what stands before the reference; `{answer}` is the answer.
        reference_field: prompt field that is to become likely; None = the prompt's text.
    """

    kind: VerdictKind = "score"
    symmetric = True

    def __init__(self, name: str, model: TextModel, *, hint: str, reference_field: str | None = None):
        self.name = name
        self._model = model
        self._hint = hint
        self._reference_field = reference_field
        self._strengths: Kept[tuple[str, str], float] = Kept("likelihood-judge", self._mean_logprob)

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises:
        UserError: the prompt has no such field.
        JudgeFailure: the model's log-probabilities are not finite.
        """
        ours, theirs = await self._logprobs(prompt, (first, second))
        return Verdict(ours - theirs)

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        """The one that makes the reference likeliest first; equal texts are level. Raises as `compare`."""
        return Places(places_of(await self._logprobs(prompt, candidates)))

    async def close(self) -> None:
        await self._strengths.close()

    async def _logprobs(self, prompt: Prompt, candidates: Sequence[Candidate]) -> list[float]:
        """Mean logprob per token of the reference after each candidate."""
        reference = reference_of(prompt, self._reference_field)
        logprobs = await self._strengths.get([(reference, candidate.text) for candidate in candidates])
        if not all(map(math.isfinite, logprobs)):
            raise JudgeFailure("bad_reply", f"{self.name} gave logprobs that are not finite", retryable=False)
        return logprobs

    def _mean_logprob(self, pair: tuple[str, str]) -> float:
        reference, answer = pair
        pieces = [Span(literal) for literal in self._hint.split("{answer}")]
        for place in range(len(pieces) - 1, 0, -1):
            pieces.insert(place, Span(answer.strip(), is_data=True))
        return self._model.mean_logprob(pieces, reference)


def build_likelihood(config: LikelihoodJudge, directory: Path) -> Likelihood:
    return Likelihood(
        judge_name(config),
        CausalModel(directory, max_tokens=config.max_tokens),
        hint=config.hint,
        reference_field=config.reference_field,
    )
