"""Under which version a new engine gets the learner's weights, whenever it asks. No Ray: calls are recorded."""

from __future__ import annotations

from typing import Any

import pytest

import rl.ranks
from rl.config import RLConfig
from rl.ranks import LearnerRanks


class RecordedRanks(LearnerRanks):
    """Ranks whose calls only leave their names and versions."""

    def __init__(self) -> None:
        super().__init__(RLConfig(num_steps=1), device="cpu", engine_handles=lambda: ["old"])
        self.calls: list[Any] = []

    async def _all(self, method: str, *args: Any, outlive: bool = False) -> list[Any]:
        self.calls.append((args[0][0], args[1]) if method == "sync" else method)
        return [{}]


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> RecordedRanks:
    monkeypatch.setattr(rl.ranks.ray, "put", lambda value: value)
    return RecordedRanks()


async def test_before_the_first_sync_a_new_engine_has_the_starting_weights(ranks: RecordedRanks) -> None:
    await ranks.renew("new")
    await ranks.step([])
    await ranks.renew("new")
    assert ranks.calls == ["step"]


async def test_a_new_engine_gets_the_weights_under_the_version_that_they_are(ranks: RecordedRanks) -> None:
    await ranks.sync(4, verify=True)
    await ranks.renew("new")
    await ranks.step([])
    await ranks.renew("new")  # behind the step in the ranks' queues: these are the weights of version 5
    await ranks.sync(5, verify=True)
    await ranks.renew("new")
    await ranks.sync(6, verify=True)  # a step that was skipped
    await ranks.renew("new")
    assert ranks.calls == [("old", 4), ("new", 4), "step", ("new", 5), ("old", 5), ("new", 5), ("old", 6), ("new", 6)]
