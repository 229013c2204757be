"""The share of the answer's n-grams that stood in it before."""

from __future__ import annotations

from dataclasses import dataclass

from rewards.gate_config import RepetitionGate
from rewards.gates.finding import Finding, text_of
from rewards.gates.words import ngrams, normalized_words
from rewards.types import Candidate, Prompt


@dataclass(frozen=True, slots=True)
class Repetition:
    """Score: 1 - repetition."""

    config: RepetitionGate

    def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        config, text = self.config, text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        items = normalized_words(text) if config.unit == "words" else list("".join(text.split()))
        ratio = repetition(items, config.ngram)
        reason = f"{ratio:.0%} of its sequences of {config.ngram} {config.unit} are repeats"
        return Finding(1.0 - ratio, None if ratio < config.max_ratio else reason)


def repetition(items: list[str], ngram: int) -> float:
    """1 - distinct n-grams / n-grams, in [0, 1); 0 where there are fewer than n items."""
    all_of = ngrams(items, ngram)
    return 1.0 - len(set(all_of)) / len(all_of) if all_of else 0.0
