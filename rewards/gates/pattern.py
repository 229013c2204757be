"""Patterns that must or must not be found; every search is timed, and lets other threads run."""

from __future__ import annotations

import asyncio

import regex

from rewards.gate_config import PatternGate
from rewards.gates.finding import Finding, text_of
from rewards.types import Candidate, Prompt


class Patterns:
    """Score: the share of the patterns that are as they should be.

    A regular expression of Python's kind can take time exponential in the answer's length. The `regex` package gives
    up after `timeout_s` and releases the interpreter while it works, so a search runs in a thread beside the event
    loop. A search that gave up counts against the answer.
    """

    def __init__(self, config: PatternGate) -> None:
        flags = regex.IGNORECASE if config.ignore_case else 0
        self.config = config
        self._wanted = [(regex.compile(pattern, flags), True) for pattern in config.required]
        self._wanted += [(regex.compile(pattern, flags), False) for pattern in config.forbidden]

    async def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        text = text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        if len(text) > self.config.max_characters:
            return Finding(0.0, f"more than {self.config.max_characters} characters")
        return await asyncio.to_thread(self._search, text)

    def _search(self, text: str) -> Finding:
        faults: list[str] = []
        for pattern, required in self._wanted:
            try:
                found = pattern.search(text, timeout=self.config.timeout_s, concurrent=True) is not None
            except TimeoutError:
                faults.append(f"took longer than {self.config.timeout_s:g} s to search for {pattern.pattern!r}")
                continue
            if found != required:
                faults.append(f"{'no match of' if required else 'matches'} {pattern.pattern!r}")
        return Finding(1.0 - len(faults) / len(self._wanted), "; ".join(faults) or None)
