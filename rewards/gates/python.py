"""Your own gate, named by import path."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from numbers import Real
from typing import Any

from rewards.errors import UserError
from rewards.gate_config import PythonGate
from rewards.gates.finding import Finding
from rewards.importing import check_takes, import_target
from rewards.types import Candidate, Prompt


class Python:
    """Score: what the function returns; False and True are 0 and 1. What it raises ends the run.

    It runs in the event loop: one that waits must be async, and one that computes for long should use a thread.
    """

    def __init__(self, config: PythonGate) -> None:
        self.config = config
        self._function = import_target(config.target)
        if not callable(self._function):
            raise UserError(f"gate target {config.target!r} is no function; give a function (prompt, candidate)")
        check_takes(f"gate target {config.target!r}", self._function, "prompt", "candidate")

    def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding | Awaitable[Finding]:
        said = self._function(prompt, candidate)
        return self._wait(said) if inspect.isawaitable(said) else self._finding(said)

    async def _wait(self, said: Awaitable[Any]) -> Finding:
        return self._finding(await said)

    def _finding(self, said: Any) -> Finding:
        if not isinstance(said, Real) or not 0.0 <= float(said) <= 1.0:
            raise UserError(f"gate {self.config.target!r} returned {said!r}; give a bool, or a score in [0, 1]")
        score = float(said)
        return Finding(score, None if score >= self.config.min_score else f"scores {score:g}")
