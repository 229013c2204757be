"""The composition root: turns a recipe into a running trainer, and a run into a model directory.

    train:   run directory (locked) -> Ray -> engines and learner ranks, started together -> judge -> Trainer.run
             everything that was started ends with the context it was started in, however the run ends

The only place that knows which engine, judge or service stands behind the protocols.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from launch.chaos import Chaos
from launch.chaos_judge import faulty
from launch.chaos_processes import ProcessFaults
from launch.desk import cache_path, make_desk, open_cache
from launch.devices import Device, engine_specs, resolve_device, sync_backend
from launch.gpu_placement import place
from launch.judging import audit_rewards, make_sink, open_judge, open_rewards, pairwise
from launch.ledger_file import LedgerFile
from launch.objective import recipe_objective
from launch.progress import ProgressMeter
from launch.prompts import RunPrompts
from launch.report import write_report
from launch.run_dir import RunDir
from launch.session import ray_session, signals_cancel
from launch.sft_run import refuse_sft_run
from launch.starting import pin_start, start_model
from launch.tracking.tracker import make_tracker
from launch.watchdog import Watchdog, beside
from recipes.load import LoadedRecipe, dump_resolved
from recipes.schema import Recipe
from rewards.arena import Arena
from rewards.budget import Spend
from rewards.cache import JudgeCache
from rewards.config import TournamentRewards
from rewards.errors import UserError
from rewards.health import judge_health, length_correlation
from rewards.ledger import spending
from rewards.match_rows import match_rows
from rewards.scoring import ScorerSink
from rewards.types import GroupScore, GroupSink
from rl.checkpoint import export_checkpoint
from rl.events import Note
from rl.ranks import LearnerRanks
from rl.trainer import Trainer
from rollouts.models import load_tokenizer
from rollouts.pool import EnginePool, candidate_of
from rollouts.tasks import build_task
from rollouts.types import Group, Rollout


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
    if run is None:
        run = RunDir.create(recipe.launch.storage, recipe.name, dump_resolved(recipe), seed=recipe.seed)
    with run.lock():
        asyncio.run(_train(recipe, loaded.base_dir, run, chaos))
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


async def _train(recipe: Recipe, base_dir: Path, run: RunDir, chaos: Chaos | None) -> None:
    device = resolve_device(recipe)
    objective = recipe_objective(recipe)
    model = start_model(recipe)
    task = build_task(recipe.task, seed=recipe.seed, base_dir=base_dir)
    tokenizer = load_tokenizer(model)
    prompts = RunPrompts.encode(recipe, task, tokenizer)
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
        sinks: list[Arena | ScorerSink] = []

        def on_rollout(rollout: Rollout) -> None:
            meter.on_rollout(rollout)
            if faults is not None:
                faults.on_rollout()

        placement = place(recipe, device)
        stack.callback(placement.release)
        pool = EnginePool(
            engine_specs(recipe, model, device),
            parse=task.parse,
            tokenizer=tokenizer,
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
        books = LedgerFile(run.path / "judge_ledger.json")
        stack.callback(books.save)
        if chaos is not None:
            judge = faulty(judge, chaos) if judge is not None else None
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
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pool.start())
                tasks.create_task(
                    learner.start(
                        str(model), objective=objective, temperature=recipe.rollouts.temperature, seed=recipe.seed
                    )
                )
            sink = make_sink(
                recipe.rewards,
                judge,
                seed=recipe.seed,
                carry_prior=True,
                on_call=books.recorder("training", meter.on_call),
                groups_per_step=recipe.rollouts.prompts_per_step,
                spent=Spend(run.num_training_calls()) if books.is_new else books.spent("training"),
                desk=desk,
            )
            heldout_sink = make_sink(
                pairwise(recipe.rewards),
                judge,
                seed=recipe.seed,
                carry_prior=False,
                on_call=books.recorder("heldout", meter.on_call),
                desk=desk,
            )
            sinks.extend((sink, heldout_sink))
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
                train_requests=prompts.train_requests,
                refill_requests=prompts.refill_requests,
                heldout_requests=prompts.heldout_requests,
                describe=describe,
                match_rows=all_match_rows,
                judge_alarms=recipe.rewards.alarms if isinstance(recipe.rewards, TournamentRewards) else (),
                audit=_audit(recipe, base_dir, device, cache, books),
                run_totals=lambda: {"judges": books.ledger.summary()},
                num_engines=recipe.rollouts.engines,
                colocated=recipe.rollouts.placement == "colocated",
                start_s=time.monotonic() - started,
            )
            step = run.latest_checkpoint()
            run.drop_metrics_after(step or 0)
            if step is not None:
                trainer.restore(await learner.load(run.checkpoint_path(step)))
            await trainer.run()

        await beside(work(), watchdog.watch())


def describe(groups: Sequence[Group], scores: Sequence[GroupScore]) -> dict[str, float]:
    """Judge health of a step, as metrics."""
    metrics = {f"judge/{name}": value for name, value in (judge_health(scores) | spending(scores)).items()}
    lengths = [[0 if rollout is None else rollout.num_tokens for rollout in group.rollouts] for group in groups]
    correlation = length_correlation([score.rewards for score in scores], lengths)
    return metrics if correlation is None else metrics | {"reward/length_correlation": correlation}


def all_match_rows(groups: Sequence[Group], scores: Sequence[GroupScore]) -> list[dict[str, Any]]:
    """The match log of a step, a row per judge call."""
    rows: list[dict[str, Any]] = []
    for group, score in zip(groups, scores, strict=True):
        texts = [None if rollout is None else candidate_of(rollout).text for rollout in group.rollouts]
        rows += match_rows(group.key, group.prompt, texts, score)
    return rows


def _audit(recipe: Recipe, base_dir: Path, device: Device, cache: JudgeCache | None, books: LedgerFile) -> Any:
    """A context that opens the second judge's sink, or None if the recipe names none."""
    config, rewards = recipe.evaluation.audit_judge, audit_rewards(recipe.rewards)
    if config is None or rewards is None:
        return None

    @asynccontextmanager
    async def open_audit() -> AsyncIterator[GroupSink]:
        audited = rewards.model_copy(update={"judge": config})
        async with open_judge(config, device=device, seed=recipe.seed, base_dir=base_dir, cache=cache) as judge:
            desk = await make_desk(audited, judge, cache=cache, base_dir=base_dir)
            yield make_sink(
                audited,
                judge,
                seed=recipe.seed,
                carry_prior=False,
                on_call=books.recorder("audit"),
                desk=desk,
            )

    return open_audit
