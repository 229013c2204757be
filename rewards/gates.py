"""Gates: cheap checks that run before any judge; each has its config in `rewards/config.py` and a line in BUILDERS."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from rewards.errors import UserError
from rewards.gate_config import CopyRatioGate, GateConfig, LengthGate
from rewards.types import Candidate, Gate, Prompt

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Length:
    """White-space separated words within bounds; the last letters one of `endings`, white space aside."""

    config: LengthGate

    @property
    def name(self) -> str:
        return self.config.kind

    def check(self, prompt: Prompt, candidate: Candidate) -> str | None:
        config = self.config
        num_words = len(candidate.text.split())
        if num_words < config.min_words:
            return f"{num_words} words, fewer than {config.min_words}"
        if num_words > config.max_words:
            return f"{num_words} words, more than {config.max_words}"
        if config.endings and not candidate.text.rstrip().endswith(config.endings):
            return f"does not end in {' or '.join(repr(ending) for ending in config.endings)}"
        return None


@dataclass(frozen=True, slots=True)
class CopyRatio:
    """The share of the answer's word n-grams that stand in the prompt; case and punctuation do not count.

    An answer shorter than n words is taken as one n-gram of its own length, so a short copy is a copy. Repeated
    n-grams count each time.
    """

    config: CopyRatioGate

    @property
    def name(self) -> str:
        return self.config.kind

    def check(self, prompt: Prompt, candidate: Candidate) -> str | None:
        ratio = copy_ratio(candidate.text, self._source(prompt), self.config.ngram)
        if ratio < self.config.max_ratio:
            return None
        return f"{ratio:.0%} of its {self.config.ngram}-word sequences are copied"

    def _source(self, prompt: Prompt) -> str:
        field = self.config.field
        if field is None:
            return prompt.text
        if field not in prompt.fields:
            near = difflib.get_close_matches(field, list(prompt.fields), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(prompt.fields) or 'none'}"
            raise UserError(f"gate copy_ratio: prompt {prompt.id} has no field {field!r}; {hint}")
        return prompt.fields[field]


def copy_ratio(answer: str, source: str, ngram: int) -> float:
    """Share of the answer's word n-grams that occur in `source`, in [0, 1]; 0 for an answer without words."""
    words = normalized_words(answer)
    if not words:
        return 0.0
    size = min(ngram, len(words))
    own = _ngrams(words, size)
    known = _known_ngrams(source, size)
    return sum(gram in known for gram in own) / len(own)


def normalized_words(text: str) -> list[str]:
    """Words without case and punctuation; an apostrophe inside a word belongs to it."""
    return [word.replace("’", "'") for word in _WORD.findall(text.casefold())]


def _ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


@lru_cache(maxsize=256)
def _known_ngrams(source: str, size: int) -> frozenset[tuple[str, ...]]:
    """Cached: all rollouts of a group are held against the same source."""
    return frozenset(_ngrams(normalized_words(source), size))


BUILDERS: Mapping[str, Callable[[Any], Gate]] = MappingProxyType({"length": Length, "copy_ratio": CopyRatio})


def build_gates(configs: Sequence[GateConfig]) -> tuple[Gate, ...]:
    """Gates in the order of the recipe."""
    return tuple(BUILDERS[config.kind](config) for config in configs)
