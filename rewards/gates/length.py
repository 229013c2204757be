"""White-space separated words within bounds; the last letters one of `endings`, white space aside."""

from __future__ import annotations

from dataclasses import dataclass

from rewards.gate_config import LengthGate
from rewards.gates.finding import PASSED, Finding, text_of
from rewards.types import Candidate, Prompt


@dataclass(frozen=True, slots=True)
class Length:
    """Score: words over min_words where there are too few, max_words over words where too many; a bad ending is 0."""

    config: LengthGate

    def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        config, text = self.config, text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        num_words = len(text.split())
        if num_words < config.min_words:
            return Finding(num_words / config.min_words, f"{num_words} words, fewer than {config.min_words}")
        if num_words > config.max_words:
            return Finding(config.max_words / num_words, f"{num_words} words, more than {config.max_words}")
        if config.endings and not text.rstrip().endswith(config.endings):
            return Finding(0.0, f"does not end in {' or '.join(repr(ending) for ending in config.endings)}")
        return PASSED
