"""How close an answer's length is to a target."""

from __future__ import annotations

from rewards.program_config import LengthProgram
from rewards.types import Candidate, Prompt


class Length:
    def __init__(self, config: LengthProgram):
        self._target = config.target
        self._in_words = config.unit == "words"

    def measure(self, prompt: Prompt, candidate: Candidate) -> float:
        """1 / (1 + |length - target| / target), in (0, 1]."""
        length = len(candidate.text.split()) if self._in_words else len(candidate.text)
        return 1.0 / (1.0 + abs(length - self._target) / self._target)
