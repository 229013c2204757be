"""`podium sft`: from a recipe's `sft` section to a run directory with checkpoints that `rl.init_from` takes.

rows, encoded --> run directory (locked) --> Ray --> learner ranks --> SFTTrainer.run
everything that was started ends with the context it was started in, however the run ends
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import ray

from launch.devices import Device, resolve_device
from launch.report import write_report
from launch.run_dir import RunDir
from launch.session import ray_session, signals_cancel
from launch.sft_data import SFTData, encode_data, sft_section
from launch.sft_run import check_resumed, mark_sft_run
from launch.tracking.tracker import make_tracker
from launch.watchdog import Watchdog, beside
from recipes.load import LoadedRecipe, dump_resolved
from recipes.schema import Recipe
from rewards.errors import UserError
from rl.config import RLConfig
from rl.events import Note
from rl.phases import PhaseClock
from rl.ranks import LearnerRanks
from rl.sft import make_groups, sft_objective
from rl.sft_config import SFTConfig
from rl.sft_schedule import num_sft_steps, rows_of_step
from rl.sft_trainer import SFTTrainer
from rl.types import TrainGroup
from rollouts.models import load_tokenizer, resolve_model


def train_sft(loaded: LoadedRecipe, *, resume: Path | None = None) -> Path:
    """Learn from the recipe's rows to the end; returns the run directory.

    Raises:
        UserError: bad input; nothing was started.
        RunStopped: the run stopped itself; `--resume` goes on from its last checkpoint.
    """
    recipe = loaded.recipe
    config = sft_section(recipe)
    model = resolve_model(recipe.model.path)
    data = encode_data(config, load_tokenizer(model), seed=recipe.seed)
    num_steps = num_sft_steps(config, len(data.train))
    if resume is None:
        run = RunDir.create(recipe.launch.storage, f"{recipe.name}-sft", dump_resolved(recipe), seed=recipe.seed)
        mark_sft_run(run, data, num_steps=num_steps)
    else:
        run = RunDir.open(resume)
        check_resumed(run, data, num_steps=num_steps)
    with run.lock():
        run.sweep_checkpoints()
        asyncio.run(_train(recipe, config, run, model, data, num_steps, resumed=resume is not None))
        write_report(run.path)
    return run.path


async def _train(
    recipe: Recipe,
    config: SFTConfig,
    run: RunDir,
    model: Path,
    data: SFTData,
    num_steps: int,
    *,
    resumed: bool,
) -> None:
    device = resolve_device(recipe)
    async with AsyncExitStack() as stack:
        tracker = make_tracker(recipe, run, num_steps)
        stack.callback(tracker.close)
        trainer: SFTTrainer | None = None
        stack.enter_context(signals_cancel(lambda: trainer is not None and trainer.request_stop()))
        stack.enter_context(ray_session(recipe))
        _check_gpus(config, device)
        learner = LearnerRanks(
            RLConfig(num_steps=num_steps, optimizer=config.optimizer, learner=config.learner), device=device
        )
        watchdog = Watchdog(
            recipe.launch.watchdog.model_copy(update={"action": "stop"}),  # there is no engine to replace
            tracker,
            run.path,
            processes=learner.processes,
            waiting=tuple,
            kill_engines=lambda: False,
        )
        clock = PhaseClock(watchdog)
        clock.enter("start", 0)
        watchdog.handle(Note("info", _data_text(data, config)))
        stack.push_async_callback(learner.stop)

        async def work() -> None:
            nonlocal trainer
            await learner.start(str(model), objective=sft_objective(), temperature=1.0, seed=recipe.seed)
            trainer = SFTTrainer(
                config=config,
                num_steps=num_steps,
                learner=learner,
                store=run,
                events=watchdog,
                clock=clock,
                groups_of=lambda step: _groups_of(data, config, recipe.seed, step),
                heldout=make_groups(data.heldout),
            )
            step = run.latest_checkpoint()
            run.drop_metrics_after(step or 0)
            if step is not None:
                trainer.restore(await learner.load(run.checkpoint_path(step)))
            if resumed:
                run.record_resume(dump_resolved(recipe), after_step=step or 0)
            await trainer.run()

        await beside(work(), watchdog.watch())


def _groups_of(data: SFTData, config: SFTConfig, seed: int, step: int) -> list[TrainGroup]:
    return make_groups([data.train[row] for row in rows_of_step(config, len(data.train), seed=seed, step=step)])


def _check_gpus(config: SFTConfig, device: Device) -> None:
    if device == "cuda" and (there := ray.cluster_resources().get("GPU", 0.0)) < config.learner.ranks:
        raise UserError(f"sft.learner.ranks: {config.learner.ranks} GPUs are needed, the cluster has {there:.0f}")


def _data_text(data: SFTData, config: SFTConfig) -> str:
    skipped = f"; {data.num_skipped:,} longer than {config.max_tokens} tokens left out" if data.num_skipped else ""
    return (
        f"{len(data.train):,} rows to learn from, {len(data.heldout):,} held out{skipped}; an epoch has "
        f"{data.num_tokens:,} tokens, {data.num_learned_tokens:,} of them in answers"
    )
