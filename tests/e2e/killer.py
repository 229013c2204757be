"""A driver that ends at a place and a step: `python -m tests.e2e.killer PLACE STEP podium-arguments...`.

By SIGKILL, as a machine that loses power would: nothing is flushed, nobody is told.

judge       the step's rollouts are there, its scores are not
learn       the learner is at work, half a tenth of a second after it was asked
checkpoint  the step's checkpoint is begun and not yet renamed into place
sft         the step of `podium sft` is learned, its checkpoint is not begun

In good order:

down        the step's judge gives no answer any more
term        SIGTERM while the step is learned
weights     the engines get other weights before the step is sampled, under the version that they had
nan         an engine gives a log-probability that is not a number

With `nowhere` nothing happens: for a run on the session's engine (on_stage.py).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

import psutil

from launch.cli import main
from launch.run_dir import RunDir
from rewards.arena import Arena
from rl.sft_trainer import SFTTrainer
from rl.trainer import Trainer
from rollouts.pool import EnginePool
from tests.e2e import judges, on_stage

SOON_S = 0.05


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(where: str, at_step: int) -> None:
    scores, learn, save, sample_and_judge = Arena.scores, Trainer._learn, Trainer._save, Trainer._sample_and_judge
    sft_save, sample_answer = SFTTrainer._save, EnginePool._sample_answer

    async def fatal_scores(self: Arena) -> Any:
        if any(key.group_id.startswith(f"step{at_step}-") for key in self._tasks):
            die()
        return await scores(self)

    async def fatal_learn(self: Trainer, step: int, *args: Any) -> Any:
        if step == at_step:
            asyncio.get_running_loop().call_later(SOON_S, die)
        return await learn(self, step, *args)

    async def fatal_save(self: Trainer, step: int, **options: Any) -> None:
        if step == at_step:
            assert isinstance(self.store, RunDir)
            path = self.store.checkpoint_path(step)
            threading.Thread(target=die_when, args=(path.with_name(f"{path.name}.tmp"),), daemon=True).start()
        await save(self, step, **options)

    async def fatal_sft_save(self: SFTTrainer, step: int, *args: Any) -> None:
        if step == at_step:
            die()
        await sft_save(self, step, *args)

    async def without_judge(self: Trainer, step: int) -> Any:
        judges.is_down = step == at_step
        return await sample_and_judge(self, step)

    async def terminated_learn(self: Trainer, step: int, *args: Any) -> Any:
        if step == at_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return await learn(self, step, *args)

    async def misled(self: Trainer, step: int) -> Any:
        if step == at_step:
            assert isinstance(self.engines, EnginePool)
            await asyncio.to_thread(mislead, self.engines, step - 1)
        return await sample_and_judge(self, step)

    async def answer_without_a_number(self: EnginePool, slot: Any, request: Any, prompt_ref: Any, index: int) -> Any:
        answer = await sample_answer(self, slot, request, prompt_ref, index)
        if answer is None or (request.key.group_id, index) != (f"step{at_step}-1", 2):
            return answer
        logprobs = answer.logprobs.copy()
        logprobs[-1] = float("nan")
        return replace(answer, logprobs=logprobs)

    if where == "judge":
        Arena.scores = fatal_scores  # type: ignore[method-assign]
    elif where == "learn":
        Trainer._learn = fatal_learn  # type: ignore[method-assign]
    elif where == "down":
        Trainer._sample_and_judge = without_judge  # type: ignore[method-assign]
    elif where == "term":
        Trainer._learn = terminated_learn  # type: ignore[method-assign]
    elif where == "checkpoint":
        Trainer._save = fatal_save  # type: ignore[method-assign]
    elif where == "sft":
        SFTTrainer._save = fatal_sft_save  # type: ignore[method-assign]
    elif where == "weights":
        Trainer._sample_and_judge = misled  # type: ignore[method-assign]
    elif where == "nan":
        EnginePool._sample_answer = answer_without_a_number  # type: ignore[method-assign]
    elif where != "nowhere":
        raise SystemExit(f"unknown place {where!r}")


def die_when(path: Any) -> None:
    """The learner's ranks die first: on their own they would finish what they are writing."""
    ranks = [child for child in psutil.Process().children(recursive=True) if "LearnerRank" in " ".join(child.cmdline())]
    assert ranks
    while not path.exists():
        pass
    for rank in ranks:
        rank.kill()
    die()


def mislead(engines: EnginePool, version: int) -> None:
    import torch

    model = on_stage.load_model(engines.specs[0].model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    on_stage.send_weights(engines.handles, model, version)


if __name__ == "__main__":
    on_stage.arm()
    arm(sys.argv[1], int(sys.argv[2]))
    sys.argv = ["podium", *sys.argv[3:]]
    main()
