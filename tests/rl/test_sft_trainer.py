"""The loop of supervised learning around a learner that writes down what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from rl.events import Note, RunDone
from rl.phases import PhaseClock
from rl.sft import make_groups
from rl.sft_config import SFTConfig
from rl.sft_trainer import SFTTrainer
from rl.types import TrainGroup
from rollouts.dialogue import Dialogue
from tests.rl.fakes import FakeEvents


def make_group(token: int) -> list[TrainGroup]:
    ids = np.array([token], dtype=np.int32)
    return make_groups([Dialogue(ids, ids, np.ones(1, dtype=bool))])


@dataclass
class FakeLearner:
    """Held-out logprobs are the negatives of `losses`, one after the other."""

    losses: Sequence[float] = ()
    log: list[str] = field(default_factory=list)
    saved: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stop_in: tuple[int, Any] | None = None

    async def step(self, groups: Sequence[TrainGroup]) -> dict[str, float]:
        token = int(groups[0].prompt_token_ids[0])
        self.log.append(f"learn {token}")
        if self.stop_in is not None and self.stop_in[0] == token:
            assert self.stop_in[1]()
        return {"rl/loss": 2.0, "rl/policy_loss": 2.0, "rl/num_tokens": 1.0, "rl/lr": 0.1}

    async def logprobs(self, groups: Sequence[TrainGroup]) -> list[Any]:
        first, *self.losses = self.losses
        self.log.append("evaluate")
        return [np.array([-first], dtype=np.float32)]

    async def save(self, path: Any, extra: Mapping[str, Any]) -> None:
        self.log.append(f"save {path}")
        self.saved[path] = extra


@dataclass
class FakeStore:
    learner: FakeLearner
    events: FakeEvents
    summary: Mapping[str, Any] | None = None
    spared: list[list[int]] = field(default_factory=list)
    num_rows: list[int] = field(default_factory=list)
    """How many there were at each checkpoint: its step's is there first."""

    def checkpoint_path(self, step: int) -> str:
        return str(step)

    def prune_checkpoints(self, keep: int, spared: Collection[int]) -> list[int]:
        self.spared.append(list(spared))
        self.num_rows.append(len(self.metrics()))
        return []

    def checkpoints(self) -> list[int]:
        return [int(step) for step in self.learner.saved]

    def metrics(self) -> list[dict[str, Any]]:
        return self.events.rows()

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        self.summary = summary


def make_trainer(learner: FakeLearner, *, num_steps: int = 4, heldout: bool = True, **keys: Any) -> SFTTrainer:
    events = FakeEvents()
    return SFTTrainer(
        config=SFTConfig.model_validate({"data": "x", **keys}),
        num_steps=num_steps,
        learner=learner,
        store=FakeStore(learner, events),
        events=events,
        clock=PhaseClock(events),
        groups_of=make_group,
        heldout=make_group(99) if heldout else [],
    )


def rows_of(trainer: SFTTrainer) -> list[dict[str, Any]]:
    return trainer.store.metrics()


async def test_a_run_evaluates_saves_and_keeps_the_best() -> None:
    learner = FakeLearner(losses=[3.0, 1.0, 2.0])
    trainer = make_trainer(learner, evaluate_every=2, checkpoint={"every": 2, "keep": 1})
    summary = await trainer.run()
    assert learner.log == [
        "evaluate",
        "learn 1",
        "learn 2",
        "evaluate",
        "save 2",
        "learn 3",
        "learn 4",
        "evaluate",
        "save 4",
    ]
    assert trainer.store.num_rows == [2, 4]  # type: ignore[attr-defined]
    assert trainer.store.spared == [[2], [2]]  # type: ignore[attr-defined]
    rows = rows_of(trainer)
    assert [row.get("sft/heldout_loss") for row in rows] == [None, 1.0, None, 2.0]
    assert rows[3]["sft/heldout_perplexity"] == pytest.approx(np.e**2)
    assert {"sft/loss": 2.0, "sft/num_tokens": 1.0, "rl/lr": 0.1}.items() <= rows[0].items()
    assert "rl/policy_loss" not in rows[0]
    assert summary["heldout_loss"] | {"perplexity": None} == {
        "before": 3.0,
        "after": 2.0,
        "perplexity": None,
        "num_tokens": 1,
    }
    assert summary["final_checkpoint"] == "checkpoints/step_4"
    assert isinstance(trainer.events, FakeEvents)
    assert trainer.events.seen[-1] == RunDone(summary)
    assert any(isinstance(event, Note) and "perplexity 20.09" in event.text for event in trainer.events.seen)


async def test_without_held_out_rows_nothing_is_evaluated() -> None:
    learner = FakeLearner()
    summary = await make_trainer(learner, num_steps=2, heldout=False).run()
    assert learner.log == ["learn 1", "learn 2", "save 2"]
    assert "heldout_loss" not in summary


async def test_a_restored_run_goes_on_and_remembers_the_start() -> None:
    first = FakeLearner(losses=[3.0])
    trainer = make_trainer(first, checkpoint={"every": 2})
    first.stop_in = (3, trainer.request_stop)
    with pytest.raises(asyncio.CancelledError):
        await trainer.run()
    assert first.log[-2:] == ["learn 3", "save 3"]
    assert not make_trainer(FakeLearner()).request_stop()  # nothing to save yet

    second = FakeLearner(losses=[0.5])
    trainer = make_trainer(second)
    trainer.restore(first.saved["3"])
    summary = await trainer.run()
    assert second.log == ["learn 4", "evaluate", "save 4"]
    assert (summary["heldout_loss"]["before"], summary["heldout_loss"]["after"]) == (3.0, 0.5)
    assert summary["seconds_by_phase"]["learn"] >= first.saved["3"]["totals"]["learn"]


async def test_a_run_that_was_killed_before_its_summary_evaluates_once_more() -> None:
    learner = FakeLearner(losses=[0.5])
    trainer = make_trainer(learner)
    trainer.restore({"step": 4, "totals": {}, "before": [3.0, 1]})
    assert (await trainer.run())["heldout_loss"]["after"] == 0.5
    assert learner.log == ["evaluate"]
