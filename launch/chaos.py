"""Faults on purpose: `podium train RECIPE --chaos kill=engine:0.1,judge=error:0.2 --chaos-seed 7`.

parse --Chaos--> ChaosJudge around the judge              each call draws: answer, error, garbage, or silence
           \\---> EngineKiller between trainer and display   each sampling draws: whom to kill, after how many rollouts

What is drawn follows from the seed and what it is about (the call, the step), not from who came first. Whom a kill
meets, the engine's actor, vLLM's EngineCore or its worker, depends on their process ids and is noted in the run's log.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rewards.errors import JudgeFailure, UserError
from rewards.judges.panel import Panel
from rewards.types import Candidate, Judge, ListJudge, Places, Prompt, Verdict, VerdictKind
from rl.events import Event, EventSink, Note, PhaseStarted

FAULTS = {
    "kill=engine": "at most one of an engine's processes is killed while a step is sampled",
    "judge=error": "a judge call fails and may be asked again",
    "judge=garbage": "a judge call is answered with something that is no verdict",
    "judge=timeout": "a judge call is never answered",
}


@dataclass(frozen=True, slots=True)
class Chaos:
    """Probability of each fault: of a kill per step, of the others per judge call."""

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


class ChaosJudge:
    """A judge that sometimes fails; asked again about the same, it draws again."""

    def __init__(self, judge: Judge, chaos: Chaos) -> None:
        self.judge = judge
        self._faults = _Faults(chaos)
        self.name = judge.name
        self.kind: VerdictKind = judge.kind
        self.symmetric = judge.symmetric

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        await self._faults.meet(prompt.id, first.id, second.id)
        return await self.judge.compare(prompt, first, second)

    async def close(self) -> None:
        await self.judge.close()


class ChaosListJudge(ChaosJudge):
    """The same for a judge that also ranks."""

    def __init__(self, judge: Judge, ranker: ListJudge, chaos: Chaos) -> None:
        super().__init__(judge, chaos)
        self._ranker = ranker

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        await self._faults.meet(prompt.id, *(candidate.id for candidate in candidates))
        return await self._ranker.rank(prompt, candidates)


def faulty(judge: Judge, chaos: Chaos) -> Judge:
    """The judge behind faults; one that ranks still does, and a panel's members fail one by one."""
    if isinstance(judge, Panel):
        return judge.behind(lambda member: faulty(member, chaos))
    return ChaosListJudge(judge, judge, chaos) if isinstance(judge, ListJudge) else ChaosJudge(judge, chaos)


class _Faults:
    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._asked: Counter[tuple[str, ...]] = Counter()

    async def meet(self, *about: str) -> None:
        self._asked[about] += 1
        draw = self._chaos.draw("judge", *about, self._asked[about])
        for name, probability in self._chaos.probabilities.items():
            if not name.startswith("judge="):
                continue
            if draw < probability:
                await _strike(name)
            draw -= probability
            if draw < 0.0:
                return


async def _strike(name: str) -> None:
    if name == "judge=timeout":
        await asyncio.Event().wait()  # until the caller's deadline
    if name == "judge=garbage":
        raise JudgeFailure("bad_reply", "chaos", retryable=False)
    raise JudgeFailure("server_error", "chaos")


class EngineKiller:
    """An EventSink in front of `sink` that kills an engine process in the middle of some samplings.

    Args:
        processes: name and process id of every engine process on this host.
        rollouts_per_step: a kill comes after fewer than these.
        staleness: of the recipe; with 1 a step is sampled while the one before it is learned.
    """

    def __init__(
        self,
        chaos: Chaos,
        sink: EventSink,
        *,
        processes: Callable[[], Mapping[str, int]],
        rollouts_per_step: int,
        staleness: int = 0,
        kill: Callable[[int, int], None] = os.kill,
    ) -> None:
        self._chaos, self._sink, self._processes, self._kill = chaos, sink, processes, kill
        self._rollouts_per_step = rollouts_per_step
        self._staleness = staleness
        self._step = 0
        self._drawn_for = 0  # a step that is refilled is sampled more than once
        self._wait_for: int | None = None

    def handle(self, event: Event) -> None:
        if isinstance(event, PhaseStarted):
            sampled = {"sample": event.step, "learn": event.step + 1 if self._staleness else None}.get(event.phase)
            if sampled is None:
                self._wait_for = None
            elif sampled != self._drawn_for:
                self._step = self._drawn_for = sampled
                drawn = self._chaos.draw("kill", sampled) < self._chaos.probabilities.get("kill=engine", 0.0)
                after = int(self._chaos.draw("after", sampled) * self._rollouts_per_step)
                self._wait_for = after if drawn else None
        self._sink.handle(event)

    def close(self) -> None:
        self._sink.close()

    def on_rollout(self) -> None:
        """A rollout has finished."""
        if self._wait_for is None:
            return
        if self._wait_for > 0:
            self._wait_for -= 1
            return
        self._wait_for = None
        processes = sorted(self._processes().items())
        if processes:
            name, pid = processes[int(self._chaos.draw("whom", self._step) * len(processes))]
            self._sink.handle(Note("warning", f"chaos: step {self._step}: killing {name}"))
            self._kill(pid, signal.SIGKILL)
