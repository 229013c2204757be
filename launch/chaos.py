"""Faults on purpose: `podium train RECIPE --chaos kill=engine:0.1,judge=error:0.2 --chaos-seed 7`.

parse --Chaos--> ChaosJudge around the judge (chaos_judge.py)     each call draws: answer, or one of the judge's faults
           \\---> ProcessFaults (chaos_processes.py)                 each step draws: whom to kill or to stop, and when

What is drawn follows from the seed and what it is about (the call, the step), not from who came first. Whom a kill
meets depends on process ids and is noted in the run's log; every strike is a line of RUN/chaos.jsonl before it falls.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from rewards.errors import UserError

FAULTS = {
    "kill=engine": "one of an engine's processes is killed while a step is sampled",
    "hang=engine": "one of an engine's processes is stopped while a step is sampled: the watchdog's business",
    "kill=learner": "a learner rank is killed while a step is learned; the run stops and is to be resumed",
    "kill=driver": "the driver is killed somewhere in a step; the run is to be resumed",
    "judge=error": "a judge call fails and may be asked again, as after HTTP 500",
    "judge=rate_limit": "a judge call is put off for a moment, as by HTTP 429",
    "judge=connection": "a judge call finds nobody there and may be made again",
    "judge=garbage": "a judge call is answered with something that is no verdict",
    "judge=empty": "a judge call is answered with nothing",
    "judge=timeout": "a judge call is never answered",
    "judge=slow": "a judge call is answered up to a second late",
}


@dataclass(frozen=True, slots=True)
class Chaos:
    """Probability of each fault: of those of the judge per call, of the others per step."""

    probabilities: Mapping[str, float]
    seed: int

    def draw(self, *about: object) -> float:
        """A number in [0, 1) that follows from the seed and what it is about."""
        digest = hashlib.sha256("\x1f".join(map(str, (self.seed, *about))).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def parse_chaos(text: str, *, seed: int) -> Chaos:
    """Reads `kill=engine:0.1,judge=error:0.2`.

    Raises:
        UserError: an unknown fault (the nearest is told), one that comes twice, or a probability outside [0, 1].
    """
    probabilities: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition(":")
        if name not in FAULTS:
            near = difflib.get_close_matches(name, FAULTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(FAULTS)}"
            raise UserError(f"--chaos: unknown fault {name!r}; {hint}")
        if name in probabilities:
            raise UserError(f"--chaos: {name} comes twice; name it once")
        try:
            probabilities[name] = float(number)
        except ValueError:
            raise UserError(f"--chaos: {name}:{number}: write a probability, for instance {name}:0.1") from None
        if not 0.0 <= probabilities[name] <= 1.0:
            raise UserError(f"--chaos: {name}:{number}: a probability lies in [0, 1]")
    if sum(p for name, p in probabilities.items() if name.startswith("judge=")) > 1.0:
        raise UserError("--chaos: the judge's faults have more than probability 1 together; lower them")
    return Chaos(probabilities, seed)
