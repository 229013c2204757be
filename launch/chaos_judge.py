"""A judge behind faults on purpose (launch/chaos.py)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from launch.chaos import Chaos
from rewards.errors import JudgeFailure
from rewards.judges.panel import Panel
from rewards.types import Candidate, Judge, ListJudge, Places, Prompt, Verdict, VerdictKind, requests_per_call

LATE_S = 1.0
RETRY_AFTER_S = 0.1


class ChaosJudge:
    """A judge that sometimes fails; asked again about the same, it draws again."""

    def __init__(self, judge: Judge, chaos: Chaos) -> None:
        self._judge = judge
        self._faults = _Faults(chaos)
        self.name = judge.name
        self.kind: VerdictKind = judge.kind
        self.symmetric = judge.symmetric
        self.requests_per_call = requests_per_call(judge)

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        await self._faults.meet(self.name, prompt.id, first.id, second.id)
        return await self._judge.compare(prompt, first, second)

    async def close(self) -> None:
        await self._judge.close()


class ChaosListJudge(ChaosJudge):
    """The same for a judge that also ranks."""

    def __init__(self, judge: Judge, ranker: ListJudge, chaos: Chaos) -> None:
        super().__init__(judge, chaos)
        self._ranker = ranker

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        await self._faults.meet(self.name, prompt.id, *(candidate.id for candidate in candidates))
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
        """Draws, and lets the call pass, waits or raises JudgeFailure."""
        self._asked[about] += 1
        draw = self._chaos.draw("judge", *about, self._asked[about])
        for name, probability in self._chaos.probabilities.items():
            if not name.startswith("judge="):
                continue
            if draw < probability:
                await _strike(name, share=draw / probability)
                return
            draw -= probability


async def _strike(name: str, share: float) -> None:
    """share: a number in [0, 1) that was drawn along with the fault."""
    match name:
        case "judge=slow":
            await asyncio.sleep(share * LATE_S)
        case "judge=timeout":
            await asyncio.Event().wait()  # until the caller's deadline
        case "judge=garbage":
            raise JudgeFailure("bad_reply", "chaos", retryable=False)
        case "judge=empty":
            raise JudgeFailure("empty", "chaos", retryable=False)
        case "judge=rate_limit":
            raise JudgeFailure("rate_limit", "chaos", retry_after_s=RETRY_AFTER_S)
        case "judge=connection":
            raise JudgeFailure("connection", "chaos")
        case _:
            raise JudgeFailure("server_error", "chaos")
