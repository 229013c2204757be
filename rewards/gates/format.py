"""Did the task make sense of the answer?"""

from __future__ import annotations

from dataclasses import dataclass

from rewards.gate_config import FormatGate
from rewards.gates.finding import PASSED, Finding
from rewards.types import Candidate, Prompt


@dataclass(frozen=True, slots=True)
class Format:
    """Score: 0 for what could not be parsed, else the share of the wanted parts that are there."""

    config: FormatGate

    def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        parsed = candidate.parsed
        if parsed.malformed is not None:
            return Finding(0.0, f"malformed: {parsed.malformed}")
        wanted = [*self.config.parts, *([self.config.part] if self.config.part is not None else ())]
        missing = [part for part in wanted if not parsed.parts.get(part, "").strip()]
        if not missing:
            return PASSED
        return Finding(1.0 - len(missing) / len(wanted), f"has no part {' and no part '.join(map(repr, missing))}")
