"""What becomes of the ranks when a sync fails. No Ray: in a rank's place stands whatever a call to it comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError

import rl.ranks
from rewards.errors import RunStopped
from rl.config import RLConfig
from rl.ranks import LearnerRanks

BROKE_OFF = RunStopped("weight sync to version 2 failed, engines hold a mixture of weights: the actor died")


class Rank:
    """A rank whose syncs come to `outcomes`, one after the other, and then work."""

    def __init__(self, *outcomes: Exception | float) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[tuple[Sequence[Any], int]] = []
        self.sync = Remote(self._sync)

    async def _sync(self, handles: Sequence[Any], version: int, *how: object) -> dict[str, float]:
        self.sent.append((handles, version))
        outcome = self.outcomes.pop(0) if self.outcomes else 0.0
        if isinstance(outcome, RayActorError):
            raise outcome
        if isinstance(outcome, Exception):
            raise RayTaskError("sync", str(outcome), outcome).as_instanceof_cause()
        await asyncio.sleep(outcome)
        return {"bytes": 8.0}


class Remote:
    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self.remote = call


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The ranks that were killed."""
    ranks: list[Any] = []
    monkeypatch.setattr(rl.ranks.ray, "kill", ranks.append)
    monkeypatch.setattr(rl.ranks, "GRACE_S", 0.02)
    return ranks


def ranks_of(*handles: Rank) -> LearnerRanks:
    ranks = LearnerRanks(RLConfig(num_steps=3), device="cpu", engine_handles=lambda: ["engine"])
    ranks.handles = list(handles)
    return ranks


async def test_after_a_transfer_broke_off_the_ranks_renew_engines_and_sync_again(killed: list[Any]) -> None:
    first, second = Rank(0.0, BROKE_OFF), Rank()
    ranks = ranks_of(first, second)
    await ranks.sync(1, verify=True)
    with pytest.raises(RunStopped, match="a mixture of weights"):
        await ranks.sync(2, verify=True)
    assert killed == []
    await ranks.renew("new")
    assert await ranks.sync(2, verify=True) == {"bytes": 8.0}
    assert first.sent == second.sent == [(["engine"], 1), (["engine"], 2), (["new"], 1), (["engine"], 2)]


async def test_a_new_engine_that_dies_while_it_is_renewed_leaves_the_ranks_alone(killed: list[Any]) -> None:
    ranks = ranks_of(Rank(0.0, BROKE_OFF))
    await ranks.sync(1, verify=True)
    with pytest.raises(RunStopped, match="a mixture of weights"):
        await ranks.renew("new")
    await ranks.renew("newer")
    assert killed == []


@pytest.mark.parametrize(
    ("outcomes", "kind", "text"),
    [
        ((BROKE_OFF, 60.0), RunStopped, "a mixture of weights"),  # the other one waits for it
        ((BROKE_OFF, RayActorError()), RunStopped, "a mixture of weights"),
        ((0.0, RayActorError()), RunStopped, "learner rank 1 died"),
        ((BROKE_OFF, ZeroDivisionError("a bug")), RunStopped, "a mixture of weights"),
        ((0.0, ZeroDivisionError("a bug")), ZeroDivisionError, "a bug"),
    ],
)
async def test_ranks_that_cannot_go_on_are_killed(
    killed: list[Any], outcomes: tuple[Any, Any], kind: type[Exception], text: str
) -> None:
    handles = [Rank(outcome) for outcome in outcomes]
    ranks = ranks_of(*handles)
    with pytest.raises(kind, match=text):
        await ranks.sync(1, verify=True)
    assert killed == handles
    with pytest.raises(RunStopped, match="not running"):
        await ranks.sync(1, verify=True)
