"""Whether a pattern is found in an answer."""

from __future__ import annotations

import re

from rewards.program_config import RegexProgram
from rewards.types import Candidate, Prompt


class Regex:
    def __init__(self, config: RegexProgram):
        self._pattern = re.compile(config.pattern)
        self._avoid = config.avoid

    def measure(self, prompt: Prompt, candidate: Candidate) -> float:
        """1 or 0."""
        return float((self._pattern.search(candidate.text) is not None) is not self._avoid)
