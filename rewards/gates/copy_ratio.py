"""The share of the answer's word n-grams that stand in the prompt; case and punctuation do not count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rewards.gate_config import CopyRatioGate, gate_name
from rewards.gates.finding import Finding, field_of, text_of
from rewards.gates.words import ngrams, normalized_words
from rewards.types import Candidate, Prompt


@dataclass(frozen=True, slots=True)
class CopyRatio:
    """Score: 1 - copy_ratio."""

    config: CopyRatioGate

    def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        config, text = self.config, text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        source = prompt.text if config.field is None else field_of(prompt, config.field, gate_name(config))
        ratio = copy_ratio(text, source, config.ngram)
        reason = f"{ratio:.0%} of its {config.ngram}-word sequences are copied"
        return Finding(1.0 - ratio, None if ratio < config.max_ratio else reason)


def copy_ratio(answer: str, source: str, ngram: int) -> float:
    """Share of the answer's word n-grams that occur in `source`, in [0, 1]; 0 for an answer without words.

    An answer shorter than n words is taken as one n-gram of its own length, so a short copy is a copy. Repeated
    n-grams count each time.
    """
    words = normalized_words(answer)
    if not words:
        return 0.0
    size = min(ngram, len(words))
    own = ngrams(words, size)
    known = _known_ngrams(source, size)
    return sum(gram in known for gram in own) / len(own)


@lru_cache(maxsize=256)
def _known_ngrams(source: str, size: int) -> frozenset[tuple[str, ...]]:
    """Cached: all rollouts of a group are held against the same source."""
    return frozenset(ngrams(normalized_words(source), size))
