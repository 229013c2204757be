"""The composition root: turns a recipe into a running trainer, and a run into a model directory.

    train:   inputs -> run directory (locked) -> Ray -> engines and learner ranks together -> judge -> Trainer.run
             everything that was started ends with the context it was started in, however the run ends

The only place that knows which engine, judge or service stands behind the protocols.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from launch.absent import refuse_absent
from launch.chaos import Chaos
from launch.chaos_judge import faulty
from launch.chaos_processes import ProcessFaults
from launch.desk import cache_path, make_desk, open_cache
from launch.devices import engine_specs, resolve_device, sync_backend
from launch.gpu_placement import place
from launch.group_rows import all_match_rows
from launch.health import health_totals, step_health
from launch.judging import make_sink, open_rewards, pairwise
from launch.ledger_file import LedgerFile
from launch.objective import recipe_objective
from launch.progress import ProgressMeter
from launch.prompts import RunPrompts
from launch.report import write_report
from launch.run_dir import RunDir
from launch.second_judge import PURPOSE, audited, open_audit, open_second
from launch.session import ray_session, signals_cancel
from launch.sft_run import refuse_sft_run
from launch.starting import pin_start, start_model
from launch.tracking.tracker import make_tracker
from launch.watchdog import Watchdog, beside
from recipes.bounds import judged_rewards
from recipes.load import LoadedRecipe, dump_resolved
from recipes.schema import Recipe
from rewards.arena import Arena
from rewards.audit import AuditedSink
from rewards.budget import Spend
from rewards.config import TournamentRewards
from rewards.errors import UserError
from rewards.gates import build_gates
from rewards.scoring import ScorerSink
from rewards.together import all_or_none
from rewards.types import AnyGate
from rl.checkpoint import export_checkpoint
from rl.events import Note
from rl.ranks import LearnerRanks
from rl.trainer import Trainer
from rollouts.models import load_tokenizer
from rollouts.pool import EnginePool
from rollouts.tasks import build_task
from rollouts.types import Rollout, Task


def train(loaded: LoadedRecipe, *, resume: Path | None = None, chaos: Chaos | None = None) -> Path:
    """Train to the end, under faults on purpose where `chaos` says so; returns the run directory.

    Raises:
        UserError: bad input; nothing was started.
        RunStopped: the run stopped itself; `--resume` goes on from its last checkpoint.
    """
    recipe = pin_start(loaded.recipe)
    run = RunDir.open(resume) if resume is not None else None
    if run is not None:
        refuse_sft_run(run)
    refuse_absent(loaded)
    inputs = _inputs(recipe, loaded.base_dir)
    if run is None:
        run = RunDir.create(recipe.launch.storage, recipe.name, dump_resolved(recipe), seed=recipe.seed)
    with run.lock():
        run.sweep_checkpoints()
        if (step := run.latest_checkpoint() or 0) > recipe.rl.num_steps:
            raise UserError(f"rl.num_steps: {recipe.rl.num_steps}, and {run.path} is at step {step} already; raise it")
        inputs.prompts.check_answered(run.load_start_answers())
        asyncio.run(_train(recipe, loaded.base_dir, run, inputs, chaos, resumed=resume is not None))
        write_report(run.path)
    return run.path


def export(run: Path, step: int, out: Path) -> None:
    """Write a checkpoint as a model directory in the Hugging Face layout.

    Raises:
        UserError: no such run or checkpoint, or `out` is not an empty folder.
    """
    source = RunDir.open(run)
    if step not in source.checkpoints():
        raise UserError(f"--step {step}: {run} has checkpoints of steps {source.checkpoints() or 'none'}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder; choose another")
    export_checkpoint(source.checkpoint_path(step), out)


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """What a run reads, all of it before its folder is made."""

    model: Path
    tokenizer: PreTrainedTokenizerBase
    task: Task
    prompts: RunPrompts
    gates: tuple[AnyGate, ...]


def _inputs(recipe: Recipe, base_dir: Path) -> _Inputs:
    gates = build_gates(recipe.rewards.gates)  # a command that cannot be run here is found now, not beside live engines
    model = start_model(recipe)
    tokenizer = load_tokenizer(model)
    task = build_task(recipe.task, seed=recipe.seed, base_dir=base_dir)
    return _Inputs(model, tokenizer, task, RunPrompts.encode(recipe, task, tokenizer), gates)


async def _train(
    recipe: Recipe, base_dir: Path, run: RunDir, inputs: _Inputs, chaos: Chaos | None, *, resumed: bool
) -> None:
    device = resolve_device(recipe)
    objective = recipe_objective(recipe)
    async with AsyncExitStack() as stack:
        tracker = make_tracker(recipe, run)
        stack.callback(tracker.close)
        trainer: Trainer | None = None
        stack.enter_context(signals_cancel(lambda: trainer is not None and trainer.request_stop()))
        stack.enter_context(ray_session(recipe))
        watchdog = Watchdog(
            recipe.launch.watchdog,
            tracker,
            run.path,
            processes=lambda: pool.processes() | learner.processes(),
            waiting=lambda: [*pool.unfinished(), *(waiting for sink in sinks for waiting in sink.unfinished())],
            kill_engines=lambda: pool.kill_engines(),
            starting=lambda: pool.is_replacing,
        )
        meter = ProgressMeter(recipe, watchdog)
        faults: ProcessFaults | None = None
        sinks: list[Arena | ScorerSink | AuditedSink] = []

        def on_rollout(rollout: Rollout) -> None:
            meter.on_rollout(rollout)
            if faults is not None:
                faults.on_rollout()

        placement = place(recipe, device)
        stack.callback(placement.release)
        pool = EnginePool(
            engine_specs(recipe, inputs.model, device),
            parse=inputs.task.parse,
            tokenizer=inputs.tokenizer,
            deadline_s=recipe.rollouts.deadline_s,
            bundles=placement.engine_bundles,
            gpu_share=placement.engine_share,
            max_replacements=recipe.rollouts.max_engine_replacements,
            renew=lambda handle: learner.renew(handle),
            on_rollout=on_rollout,
            on_replaced=meter.on_engine_replaced,
        )
        learner = LearnerRanks(
            recipe.rl,
            device=device,
            engine_handles=lambda: pool.handles,
            backend=sync_backend(recipe, device),
            wire_dtype=recipe.rollouts.engine.dtype,
            placement_group=placement.group,
            first_bundle=placement.first_learner_bundle,
            gpus_per_rank=placement.learner_share,
        )
        cache = await stack.enter_async_context(open_cache(cache_path(recipe.rewards, run.path)))
        judge = await stack.enter_async_context(
            open_rewards(recipe.rewards, device=device, seed=recipe.seed, base_dir=base_dir, cache=cache)
        )
        desk = await make_desk(recipe.rewards, judge, cache=cache, base_dir=base_dir)
        second = await stack.enter_async_context(open_second(recipe, base_dir, device, cache))
        books = LedgerFile(run.path / "judge_ledger.json")
        stack.callback(books.save)
        if chaos is not None:
            judge = faulty(judge, chaos) if judge is not None else None
            second = faulty(second, chaos) if second is not None else None
            faults = ProcessFaults(
                chaos,
                meter,
                engines=pool.processes,
                ranks=learner.processes,
                rollouts_per_step=recipe.rollouts.group_size * recipe.rollouts.prompts_per_step,
                staleness=recipe.rl.staleness,
                log=run.path / "chaos.jsonl",
            )
            named = ", ".join(f"{name}:{p:g}" for name, p in chaos.probabilities.items())
            meter.handle(Note("warning", f"chaos: faults on purpose, seed {chaos.seed}: {named}"))
        meter.starting()
        started = time.monotonic()
        stack.push_async_callback(learner.stop)
        stack.push_async_callback(pool.stop)

        async def work() -> None:
            nonlocal trainer
            await all_or_none(
                [
                    pool.start(),
                    learner.start(
                        str(inputs.model),
                        objective=objective,
                        temperature=recipe.rollouts.temperature,
                        seed=recipe.seed,
                    ),
                ]
            )
            sink: Arena | ScorerSink | AuditedSink = make_sink(
                judged_rewards(recipe),
                judge,
                seed=recipe.seed,
                carry_prior=True,
                on_call=books.recorder("training", meter.on_call),
                groups_per_step=recipe.rollouts.prompts_per_step,
                spent=Spend(run.num_training_calls()) if books.is_new else books.spent("training"),
                desk=desk,
                gates=inputs.gates,
            )
            if second is not None and isinstance(sink, Arena):
                sink = await audited(
                    sink,
                    second,
                    recipe,
                    base_dir,
                    cache=cache,
                    books=books,
                    spent=Spend(run.num_training_calls("audits")) if books.is_new else books.spent(PURPOSE),
                    on_call=meter.on_call,
                    say=lambda line: meter.handle(Note("warning", line)),
                )
            heldout_sink = make_sink(
                pairwise(recipe.rewards),
                judge,
                seed=recipe.seed,
                carry_prior=False,
                on_call=books.recorder("heldout", meter.on_call),
                desk=desk,
                gates=inputs.gates,
            )
            sinks.extend((sink, heldout_sink))
            alarms = recipe.rewards.alarms if isinstance(recipe.rewards, TournamentRewards) else ()
            trainer = Trainer(
                rl=recipe.rl,
                evaluation=recipe.evaluation,
                objective=objective,
                seed=recipe.seed,
                engines=pool,
                sink=sink,
                heldout_sink=heldout_sink,
                learner=learner,
                store=run,
                events=faults or meter,
                train_requests=inputs.prompts.train_requests,
                refill_requests=inputs.prompts.refill_requests,
                heldout_requests=inputs.prompts.heldout_requests,
                describe=partial(step_health, seed=recipe.seed),
                match_rows=all_match_rows,
                judge_alarms=alarms,
                audit=open_audit(recipe, base_dir, device, cache, books, second),
                run_totals=lambda: {"judges": books.ledger.summary()} | health_totals(run.metrics(), alarms),
                num_engines=recipe.rollouts.engines,
                colocated=recipe.rollouts.placement == "colocated",
                start_s=time.monotonic() - started,
            )
            step = run.latest_checkpoint()
            run.drop_metrics_after(step or 0)
            if step is not None:
                trainer.restore(await learner.load(run.checkpoint_path(step)))
            if resumed:
                run.record_resume(dump_resolved(recipe), after_step=step or 0)  # what is refused comes before this
            await trainer.run()

        await beside(work(), watchdog.watch())
