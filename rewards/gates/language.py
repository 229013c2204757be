"""Is the answer in a language? By its script, and by function words where languages share one: a rule of thumb."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from rewards.gate_config import Language, LanguageGate
from rewards.gates.finding import Finding, text_of
from rewards.gates.function_words import FUNCTION_WORDS
from rewards.gates.words import normalized_words
from rewards.types import Candidate, Prompt

SCRIPTS: Mapping[Language, frozenset[str]] = {
    **dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "nl"), frozenset({"LATIN"})),
    "ru": frozenset({"CYRILLIC"}),
    "el": frozenset({"GREEK"}),
    "ar": frozenset({"ARABIC"}),
    "he": frozenset({"HEBREW"}),
    "hi": frozenset({"DEVANAGARI"}),
    "th": frozenset({"THAI"}),
    "zh": frozenset({"CJK"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    "ko": frozenset({"HANGUL", "CJK"}),
}
"""First words of the Unicode names of a language's letters."""

OWN_LETTERS: Mapping[str, frozenset[str]] = {
    "ja": frozenset({"HIRAGANA", "KATAKANA"}),
    "ko": frozenset({"HANGUL"}),
}
"""Chinese characters alone are Chinese: at least a tenth of the letters must be of these."""

MIN_OWN_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class LanguageOf:
    """Score: the share of letters in the language's script, times the share of function words that are its own.

    Function words that two languages share count for both. Only the likeliest other language is held against it, and a
    text without any function word is not held against anything: a name or a number is at home everywhere.
    """

    config: LanguageGate

    def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        config, text = self.config, text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        share = script_share(text, config.language)
        rival, own_share = closest_rival(text, config.language)
        score = share * own_share
        if share < config.min_share:
            return Finding(score, f"{share:.0%} of its letters are of the script of {config.language}")
        if own_share < 0.5:
            return Finding(score, f"its function words are of {rival} rather than {config.language}")
        return Finding(score)


def script_share(text: str, language: Language) -> float:
    """Share of the letters that are of the language's script, in [0, 1]; 1 for a text without letters."""
    scripts = Counter(script for script in map(_script, unicodedata.normalize("NFKC", text)) if script)
    total = scripts.total()
    if not total:
        return 1.0
    own = OWN_LETTERS.get(language)
    if own is not None and sum(scripts[name] for name in own) < MIN_OWN_SHARE * total:
        return 0.0
    return sum(scripts[name] for name in SCRIPTS[language]) / total


def closest_rival(text: str, language: Language) -> tuple[str | None, float]:
    """The other language with the most function words in the text, and the language's own share against it.

    (None, 1.0) for languages without a list and for texts without a function word.
    """
    if language not in FUNCTION_WORDS:
        return None, 1.0
    words = normalized_words(text)
    hits = {name: sum(word in listed for word in words) for name, listed in FUNCTION_WORDS.items()}
    own = hits.pop(language)
    rival = max(hits, key=hits.__getitem__)
    both = own + hits[rival]
    return (rival, own / both) if both else (None, 1.0)


@lru_cache(maxsize=65536)
def _script(character: str) -> str | None:
    """First word of a letter's Unicode name; None for what is no letter."""
    return unicodedata.name(character, "UNNAMED").partition(" ")[0] if character.isalpha() else None
