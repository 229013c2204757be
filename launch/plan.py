"""The plan of a run: what a recipe means on this machine. Arithmetic only; nothing is started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from launch.machine import Device, Machine
from launch.memory import (
    MemoryItem,
    engine_items,
    judge_items,
    kv_tokens,
    learner_items,
    process_items,
    total_gib,
)
from launch.sft_plan import SFTPlan
from launch.sources import SourceFacts
from recipes.bounds import JudgeCalls, groups_per_step, judge_calls
from recipes.load import LoadedRecipe
from recipes.schema import Recipe
from rewards.config import TournamentRewards
from rewards.judge_config import JudgeConfig, PanelJudge, SingleJudge, has_engine
from rl.objectives import Objective
from rollouts.models import ModelFacts


@dataclass(frozen=True, slots=True)
class EnginesPlan:
    """threads: CPU threads that each engine binds. kv_tokens: tokens its KV cache holds (device cpu)."""

    num_engines: int
    tensor_parallel_size: int
    placement: str
    max_model_len: int
    threads: int | None
    kv_tokens: int | None
    sync: Literal["shm", "nccl", "ipc"]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Shapes of a step; token counts are upper bounds, those sampled with all refills of `rl.dynamic_sampling`."""

    num_prompts: int
    group_size: int
    num_rollouts: int
    max_sampled_tokens: int
    max_learned_tokens: int
    optimizer_steps_per_step: int
    num_steps: int
    optimizer_steps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """num_gpus: what the run takes, judges included. num_train: None where only the run can count."""

    name: str
    sources: tuple[str, ...]
    runs_in: str
    device: Device
    ray_address: str | None
    machine: Machine
    num_gpus: int
    policy: ModelFacts
    judges: dict[str, ModelFacts]
    num_train: int | None
    num_heldout: int | None
    engines: EnginesPlan
    learner_ranks: int
    zero_stage: int
    batch: BatchPlan
    objective: Objective
    calls: JudgeCalls
    memory: tuple[MemoryItem, ...]
    memory_gib: float
    sft: SFTPlan | None
    warnings: tuple[str, ...]


def make_plan(
    loaded: LoadedRecipe,
    *,
    machine: Machine,
    device: Device,
    ray_address: str | None,
    policy: ModelFacts,
    judges: dict[str, ModelFacts],
    source: SourceFacts,
    objective: Objective,
    runs_in: str,
    sft: SFTPlan | None = None,
    noticed: Sequence[str] = (),
) -> Plan:
    """Everything that `podium check` prints, from facts that were looked up before.

    noticed: warnings from looking things up.
    """
    recipe = loaded.recipe
    memory = tuple(memory_items(recipe, policy, judges, device))
    num_gpus = gpus_needed(recipe) if device == "cuda" else 0
    return Plan(
        name=recipe.name,
        sources=tuple(str(path) for path in loaded.sources),
        runs_in=runs_in,
        device=device,
        ray_address=ray_address,
        machine=machine,
        num_gpus=num_gpus,
        policy=policy,
        judges=judges,
        num_train=source.num_train,
        num_heldout=source.num_heldout,
        engines=_engines(recipe, policy, device, machine),
        learner_ranks=recipe.rl.learner.ranks,
        zero_stage=recipe.rl.learner.zero_stage,
        batch=batch_plan(recipe),
        objective=objective,
        calls=judge_calls(recipe),
        memory=memory,
        memory_gib=total_gib(list(memory)),
        sft=sft,
        warnings=tuple(_warnings(recipe, memory, machine, device, ray_address))
        + tuple(_hub_warnings((policy, *judges.values())))
        + tuple(noticed),
    )


def batch_plan(recipe: Recipe) -> BatchPlan:
    """With a shared prompt the learner reads each group's prompt once (in every micro-batch that holds the group)."""
    rollouts, rl = recipe.rollouts, recipe.rl
    num_rollouts = rollouts.prompts_per_step * rollouts.group_size
    longest = num_rollouts * rollouts.max_tokens
    prompts = rollouts.prompts_per_step if rl.learner.share_prompt else num_rollouts
    return BatchPlan(
        num_prompts=rollouts.prompts_per_step,
        group_size=rollouts.group_size,
        num_rollouts=num_rollouts,
        max_sampled_tokens=groups_per_step(recipe) * rollouts.group_size * rollouts.max_tokens,
        max_learned_tokens=longest + prompts * rollouts.max_prompt_tokens,
        optimizer_steps_per_step=rl.updates_per_step,
        num_steps=rl.num_steps,
        optimizer_steps=rl.num_steps * rl.updates_per_step,
    )


def max_model_len(recipe: Recipe) -> int:
    """Tokens that an engine can hold of one prompt with its answer."""
    rollouts = recipe.rollouts
    return rollouts.engine.max_model_len or rollouts.max_prompt_tokens + rollouts.max_tokens


def judges_of(recipe: Recipe) -> dict[str, tuple[tuple[str | int, ...], SingleJudge]]:
    """Every judge of the recipe, members of panels one by one: its role, its key path and its config."""
    named: dict[str, tuple[tuple[str, str], JudgeConfig]] = {}
    if isinstance(recipe.rewards, TournamentRewards):
        named["judge"] = (("rewards", "judge"), recipe.rewards.judge)
    if recipe.evaluation.audit_judge is not None:
        named["audit judge"] = (("evaluation", "audit_judge"), recipe.evaluation.audit_judge)
    judges: dict[str, tuple[tuple[str | int, ...], SingleJudge]] = {}
    for role, (path, judge) in named.items():
        if not isinstance(judge, PanelJudge):
            judges[role] = (path, judge)
            continue
        for number, member in enumerate(judge.members):
            judges[f"{role}, member {number + 1}"] = ((*path, "members", number, "judge"), member.judge)
    return judges


def judge_engines(recipe: Recipe) -> int:
    """vLLM engines that judges run in."""
    return sum(has_engine(judge) for _, judge in judges_of(recipe).values())


def gpus_needed(recipe: Recipe) -> int:
    """Engines and learner ranks, sharing where colocated, and one for each judge's engine."""
    sampling = recipe.rollouts.engines * recipe.rollouts.engine.tensor_parallel_size
    ranks = recipe.rl.learner.ranks
    shared = max(sampling, ranks) if recipe.rollouts.placement == "colocated" else sampling + ranks
    return shared + judge_engines(recipe)


def memory_items(recipe: Recipe, policy: ModelFacts, judges: dict[str, ModelFacts], device: Device) -> list[MemoryItem]:
    items = learner_items(recipe.rl.learner, policy, has_reference=recipe.rl.objective.kl_coef > 0)
    items += engine_items(recipe, policy, device)
    for role, (_, judge) in judges_of(recipe).items():
        if role in judges:
            items += judge_items(role, judge, judges[role])
    return items + process_items(recipe, judge_engines(recipe)) if device == "cpu" else items


def _engines(recipe: Recipe, policy: ModelFacts, device: Device, machine: Machine) -> EnginesPlan:
    rollouts, config = recipe.rollouts, recipe.rollouts.engine
    on_cpu = device == "cpu"
    automatic = "shm" if on_cpu else "ipc" if rollouts.placement == "colocated" else "nccl"
    backend = recipe.rl.sync.backend
    return EnginesPlan(
        num_engines=rollouts.engines,
        tensor_parallel_size=config.tensor_parallel_size,
        placement=rollouts.placement,
        max_model_len=max_model_len(recipe),
        threads=(config.cpu_threads or max(1, machine.cores // rollouts.engines)) if on_cpu else None,
        kv_tokens=kv_tokens(config.kv_cache_gib, policy, config.dtype) if on_cpu else None,
        sync=automatic if backend == "auto" else backend,
    )


def _warnings(
    recipe: Recipe, memory: tuple[MemoryItem, ...], machine: Machine, device: Device, ray_address: str | None
) -> Iterator[str]:
    """What this machine will hardly bear; a cluster elsewhere is not held against it."""
    needed, engines = total_gib(list(memory)), recipe.rollouts.engines
    if ray_address is not None:
        return
    if device == "cuda":
        total = sum(gpu.memory_gib for gpu in machine.gpus)
        if needed > total:
            yield f"memory: about {needed:.1f} GiB are needed and all GPUs have {total:.1f}; use more GPUs"
        return
    if needed > machine.memory_free_gib:
        cure = "lower kv_cache_gib, micro_batch_tokens or the number of engines"
        yield f"memory: about {needed:.1f} GiB are needed and {machine.memory_free_gib:.1f} are free; {cure}"
    bound = engines * (recipe.rollouts.engine.cpu_threads or 1)
    if bound > machine.cores:
        yield f"cores: {engines} engines bind {bound} and there are {machine.cores}; use fewer engines or threads"


def _hub_warnings(models: tuple[ModelFacts, ...]) -> Iterator[str]:
    for facts in models:
        if facts.location == "hub":
            yield f"model {facts.name}: taken from the hub at the start of the run, or from its local cache"
