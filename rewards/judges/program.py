"""The answer that a program measures higher wins."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.judge_config import ProgramJudge, judge_name
from rewards.judges.places import places_of
from rewards.judges.programs import PROGRAMS, Measure
from rewards.types import Candidate, Places, Prompt, Verdict, VerdictKind


class Program:
    """Verdict: `hard`, who measures higher, or a `score`, the difference; symmetric."""

    symmetric = True

    def __init__(self, name: str, measure: Measure, kind: VerdictKind):
        self.name = name
        self.kind: VerdictKind = kind
        self._measure = measure.measure

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises UserError where the prompt lacks what the program reads of it."""
        ours, theirs = self._measure(prompt, first), self._measure(prompt, second)
        if self.kind == "score":
            return Verdict(ours - theirs)
        return Verdict(0.5 if ours == theirs else float(ours > theirs), reason=f"{ours:.6g} against {theirs:.6g}")

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        return Places(places_of([self._measure(prompt, candidate) for candidate in candidates]))

    async def close(self) -> None:
        """Nothing to end."""


def build_program(config: ProgramJudge) -> Program:
    return Program(judge_name(config), PROGRAMS[config.by.kind](config.by), config.verdict)
