"""What the sinks of one reward side share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from launch.reward_side import open_reward_side
from rewards.gates.command import Command
from rewards.gates.finding import Finding
from rewards.texts import GroupOfTexts, score_texts
from tests.launch.test_score import rewards

GATE = "  gates: [{kind: command, command: ['true'], network: allowed, max_concurrency: 1}]\n"


async def test_a_gate_runs_so_many_commands_at_once_whatever_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Command._run
    at_work: list[int] = []
    most = 0

    async def counted(self: Command, *args: Any) -> Finding:
        nonlocal most
        at_work.append(1)
        most = max(most, len(at_work))
        try:
            return await run(self, *args)
        finally:
            at_work.pop()

    monkeypatch.setattr(Command, "_run", counted)
    async with open_reward_side(rewards(tmp_path, more=GATE)) as side:
        groups = [GroupOfTexts(prompt="p", candidates=["a", f"bb{number}"]) for number in range(3)]
        scores = await asyncio.gather(*(score_texts(side.sink(), [group]) for group in groups))
    assert [score.rewards for (score,) in scores] == [scores[0][0].rewards] * 3
    assert scores[0][0].gate_failures == {}
    assert most == 1
