"""Cross-field checks: what no single key can know. Each yields (key path, rule with its cure).

What depends on files or on the machine is checked in `launch/check.py`, the objective by `rl/objectives.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from recipes.bounds import audit_budget, calls_in
from recipes.criteria_checks import criteria_faults
from recipes.dead_keys import dead_keys
from recipes.reward_checks import Fault, budgets, fields, judging, parts, prior, scoring
from recipes.sft_checks import sft_faults
from rewards.config import TournamentRewards
from rl.zero import learner_faults, offload_fault
from rollouts.config import FreeformTask, SlateRankTask

if TYPE_CHECKING:
    from recipes.schema import Recipe


def lengths(recipe: Recipe) -> Iterator[Fault]:
    rollouts, context = recipe.rollouts, recipe.model.max_context
    longest = rollouts.max_prompt_tokens + rollouts.max_tokens
    total = f"max_prompt_tokens {rollouts.max_prompt_tokens} + max_tokens {rollouts.max_tokens} = {longest}"
    engine_len = rollouts.engine.max_model_len
    if context is not None and longest > context:
        yield ("rollouts", "max_tokens"), f"{total} is more than model.max_context {context}; shorten one of them"
    if engine_len is not None and longest > engine_len:
        rule = f"must hold prompt and answer, and {total}; raise it or leave it out"
        yield ("rollouts", "engine", "max_model_len"), rule
    if engine_len is not None and context is not None and engine_len > context:
        yield ("rollouts", "engine", "max_model_len"), f"is more than model.max_context {context}; lower it"
    if recipe.rl.learner.micro_batch_tokens < longest:
        rule = f"one prompt with one answer must fit, and {total}; raise it to at least {longest}"
        yield ("rl", "learner", "micro_batch_tokens"), rule


def counts(recipe: Recipe) -> Iterator[Fault]:
    rollouts, rl = recipe.rollouts, recipe.rl
    groups = rollouts.prompts_per_step
    if rl.min_group > rollouts.group_size:
        rule = f"every group would be dropped: rollouts.group_size is {rollouts.group_size}; lower it"
        yield ("rl", "min_group"), rule
    if rl.updates_per_step > groups * rollouts.group_size:
        rule = f"a step has only {groups} x {rollouts.group_size} = {groups * rollouts.group_size} rollouts; lower it"
        yield ("rl", "updates_per_step"), rule
    if rl.learner.ranks > groups:
        rule = f"each rank needs a group, but rollouts.prompts_per_step is {groups}; use fewer ranks or more prompts"
        yield ("rl", "learner", "ranks"), rule
    if rl.optimizer.warmup_steps > rl.num_steps:
        yield ("rl", "optimizer", "warmup_steps"), f"is longer than the run's {rl.num_steps} steps; shorten it"
    if rollouts.engines_per_node is not None and rollouts.engines_per_node > rollouts.engines:
        rule = f"is more than rollouts.engines {rollouts.engines}; lower it or leave it out"
        yield ("rollouts", "engines_per_node"), rule


def learner(recipe: Recipe) -> Iterator[Fault]:
    for key, rule in learner_faults(recipe.rl.learner):
        yield ("rl", "learner", *key), rule


def staleness(recipe: Recipe) -> Iterator[Fault]:
    """Sampling ahead needs engines that run beside the learner; what the loss must do is said in `rl/objectives`."""
    if recipe.rl.staleness and recipe.rollouts.placement == "colocated":
        rule = "1 samples while a step is learned, and colocated engines sleep then; use 0, or placement: separate"
        yield ("rl", "staleness"), rule


def evaluation(recipe: Recipe) -> Iterator[Fault]:
    task, wanted = recipe.task, recipe.evaluation.num_prompts
    if isinstance(task, FreeformTask | SlateRankTask) and wanted > task.heldout:
        rule = f"only task.heldout = {task.heldout} prompts are set aside; raise that or lower this"
        yield ("evaluation", "num_prompts"), rule
    audit = recipe.evaluation.audit_judge
    if isinstance(recipe.rewards, TournamentRewards) and audit == recipe.rewards.judge:
        yield ("evaluation", "audit_judge"), "is the judge that trains; audit with another one, or leave it out"
    if recipe.evaluation.audit_share:
        yield from _audit_in_training(recipe)


def _audit_in_training(recipe: Recipe) -> Iterator[Fault]:
    path, audit = ("evaluation", "audit_share"), recipe.evaluation.audit_judge
    if not isinstance(recipe.rewards, TournamentRewards):
        yield path, "rewards of a scorer decide no pairs that a second judge could look over; leave it out"
        return
    if audit is None:
        yield path, "needs a second judge; name it in evaluation.audit_judge, or leave it out"
        return
    part = audit_budget(recipe)[1]
    for key in ("calls_per_step", "calls_per_run"):
        if (calls := getattr(part, key)) is not None and calls < calls_in(True, audit):
            rule = f"the audit judge's part of rewards.budget.{key} is {calls} calls, too few for a pair; raise either"
            yield path, rule


def devices(recipe: Recipe) -> Iterator[Fault]:
    """What no machine can do; what this machine cannot do is found when the device is known."""
    rollouts, backend = recipe.rollouts, recipe.rl.sync.backend
    if recipe.launch.device == "cpu":
        yield from cpu_faults(recipe)
    if backend == "ipc" and rollouts.placement == "separate":
        rule = "ipc shares memory of one GPU, and rollouts.placement is separate; use auto, or placement: colocated"
        yield ("rl", "sync", "backend"), rule
    if backend == "nccl" and rollouts.placement == "colocated":
        rule = "nccl needs a GPU for each side, and rollouts.placement is colocated; use auto, or placement: separate"
        yield ("rl", "sync", "backend"), rule
    num_gpus = rollouts.engines * rollouts.engine.tensor_parallel_size
    if rollouts.placement == "colocated" and rollouts.engine.tensor_parallel_size > 1:
        rule = "a colocated engine shares one GPU with one learner rank; use 1 and more rollouts.engines, or separate"
        yield ("rollouts", "engine", "tensor_parallel_size"), rule
    elif rollouts.placement == "colocated" and num_gpus != recipe.rl.learner.ranks:
        rule = f"colocated engines need a learner rank on each of their {num_gpus} GPUs; set it to {num_gpus}"
        yield ("rl", "learner", "ranks"), rule


def cpu_faults(recipe: Recipe) -> Iterator[Fault]:
    """What a run on CPU cannot do."""
    rollouts, backend = recipe.rollouts, recipe.rl.sync.backend
    if rollouts.placement == "colocated":
        yield ("rollouts", "placement"), "engines can share the learner's GPUs only on device cuda; use separate"
    if rollouts.engine.tensor_parallel_size > 1:
        rule = "tensor parallelism needs device cuda; use 1, and more rollouts.engines"
        yield ("rollouts", "engine", "tensor_parallel_size"), rule
    if rollouts.engine.enable_sleep_mode:
        yield (
            ("rollouts", "engine", "enable_sleep_mode"),
            "sleep frees GPU memory and does nothing on device cpu; use false",
        )
    for name, section in (("rl", recipe.rl), ("sft", recipe.sft)):
        if section is not None and (fault := offload_fault(section.learner)) is not None:
            yield (name, "learner", *fault[0]), fault[1]
    if backend in ("nccl", "ipc"):
        yield ("rl", "sync", "backend"), f"{backend} needs device cuda; use auto or shm"


CHECKS: tuple[Callable[[Recipe], Iterator[Fault]], ...] = (
    lengths,
    counts,
    learner,
    staleness,
    evaluation,
    devices,
    judging,
    parts,
    prior,
    budgets,
    fields,
    scoring,
    criteria_faults,
    sft_faults,
    dead_keys,
)


def cross_faults(recipe: Recipe) -> list[Fault]:
    """Everything that is wrong between the keys of a recipe whose keys are right one by one."""
    return [fault for check in CHECKS for fault in check(recipe)]
