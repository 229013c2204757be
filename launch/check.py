"""`podium check`: look up everything a recipe names, without importing or starting any of it, and plan the run.

recipe --names--> models, plug-ins, prompt files, templates, this machine --facts--> plan, or every fault at once
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from launch.absent import absent
from launch.locks import has_cpu_build
from launch.machine import Device, Machine, read_machine, resolve_device
from launch.memory import kv_tokens
from launch.objective import recipe_objective
from launch.plan import Plan, gpus_needed, judges_of, make_plan, max_model_len
from launch.sft_plan import plan_sft
from launch.sources import SourceFacts, source_facts
from launch.starting import locate_start
from recipes.checks import cpu_faults
from recipes.load import LoadedRecipe
from recipes.messages import Fault, RecipeError, did_you_mean
from recipes.reward_checks import KeyPath, named_fields
from recipes.schema import Recipe
from rewards.calibration import load_pairs
from rewards.config import ScorerRewards, TournamentRewards
from rewards.errors import UserError
from rewards.gate_config import PythonGate
from rewards.importing import locate
from rewards.judge_config import (
    ChatJudge,
    ProgramJudge,
    PythonJudge,
    SingleJudge,
    VerdictTokensJudge,
)
from rewards.judges.rubric_prompts import load_prompts
from rewards.judges.verdict_tokens import DATA, LIST_DATA, LIST_TEXTS, TEXTS
from rewards.list_template import load_list_template
from rewards.rubric_config import RubricJudge
from rewards.template import load_template, unclosed
from rl.objectives import Objective
from rollouts.config import EngineConfig, FreeformTask, PythonTask, SlateRankTask
from rollouts.models import ModelFacts, locate_model


def this_machine() -> Machine:
    """This machine as podium can use it: the CPU build of vLLM sees no GPU."""
    machine = read_machine()
    return replace(machine, gpus=()) if has_cpu_build() else machine


def check_recipe(loaded: LoadedRecipe, machine: Machine | None = None) -> Plan:
    """The plan of a loaded recipe.

    Args:
        machine: default: this one. Where the recipe or $RAY_ADDRESS names a cluster, sizes are not held against it.

    Raises:
        RecipeError: one line per name that leads nowhere and per thing that this machine cannot do.
    """
    machine = this_machine() if machine is None else machine
    recipe = loaded.recipe
    address = ray_address(recipe)
    device = resolve_device(recipe.launch.device, machine)
    faults: list[Fault] = []
    policy = _policy(loaded, faults)
    judges = {role: _judge_model(loaded, path, judge, faults) for role, (path, judge) in judges_of(recipe).items()}
    source = _source(loaded, faults)
    objective = _objective(loaded, faults)
    faults += _plugin_faults(loaded)
    faults += _calibration(loaded)
    faults += [loaded.fault(path, rule) for path, rule in _device_faults(recipe, device, machine, address)]
    if device == "cpu" and (address is None or recipe.launch.device == "cpu"):
        faults += [loaded.fault(path, rule) for path, rule in _cache_faults(recipe, policy, judges)]
    cache = recipe.rewards.cache if isinstance(recipe.rewards, TournamentRewards) else False
    if isinstance(cache, str) and os.path.isdir(cache):
        faults.append(loaded.fault(("rewards", "cache"), "is a folder; name a file in it"))
    faults += storage_fault(loaded)
    sft = None
    if recipe.sft is not None and policy is not None:
        num_gpus = len(machine.gpus) or None if address is None else None  # that there is none was said above
        sft = plan_sft(loaded, recipe.sft, policy, device, num_gpus, faults)
    if faults or policy is None or objective is None:
        raise RecipeError(faults)
    return make_plan(
        loaded,
        machine=machine,
        device=device,
        ray_address=address,
        policy=policy,
        judges={role: facts for role, facts in judges.items() if facts is not None},
        source=source,
        objective=objective,
        runs_in=runs_in(recipe),
        sft=sft,
        noticed=tuple(_noticed(recipe, source)),
    )


def ray_address(recipe: Recipe) -> str | None:
    """The cluster that the recipe or the environment names."""
    return recipe.launch.ray_address or os.environ.get("RAY_ADDRESS") or None


def runs_in(recipe: Recipe) -> str:
    return os.path.abspath(os.path.expanduser(recipe.launch.storage))


def storage_fault(loaded: LoadedRecipe) -> Iterator[Fault]:
    folder = runs_in(loaded.recipe)
    if os.path.exists(folder) and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        yield loaded.fault(("launch", "storage"), f"{folder} is not a folder that can be written")


def _policy(loaded: LoadedRecipe, faults: list[Fault]) -> ModelFacts | None:
    recipe = loaded.recipe
    facts = model_facts(loaded, ("model", "path"), recipe.model.path, faults)
    if recipe.rl.init_from is not None:
        facts = _start(loaded, facts, faults)
    if facts is None:
        return None
    longest = recipe.rollouts.max_prompt_tokens + recipe.rollouts.max_tokens
    if facts.max_context is not None and (recipe.model.max_context or longest) > facts.max_context:
        path = ("model", "max_context") if recipe.model.max_context else ("rollouts", "max_tokens")
        rule = f"the model's own context is {facts.max_context}; prompt and answer take up to {longest}"
        faults.append(loaded.fault(path, rule))
    parallel = recipe.rollouts.engine.tensor_parallel_size
    if facts.num_heads is not None and facts.num_heads % parallel:
        rule = f"must divide the model's {facts.num_heads} attention heads"
        faults.append(loaded.fault(("rollouts", "engine", "tensor_parallel_size"), rule))
    return facts


def _start(loaded: LoadedRecipe, named: ModelFacts | None, faults: list[Fault]) -> ModelFacts | None:
    """What `rl.init_from` leads to; it must be the model that the recipe names, with other weights."""
    path = ("rl", "init_from")
    try:
        facts = locate_start(loaded.recipe)
    except UserError as error:
        faults.append(loaded.fault(path, _without_subject(_without_subject(str(error), "rl.init_from"), "model ")))
        return None
    for key in ("hidden_size", "num_layers"):
        here, there = getattr(facts, key), getattr(named, key, None)
        if here is not None and there is not None and here != there:
            rule = f"its {key} is {here} and that of model.path {there}; name the model that it was made from there"
            faults.append(loaded.fault(path, rule))
            return None
    return facts


def _judge_model(loaded: LoadedRecipe, path: KeyPath, judge: SingleJudge, faults: list[Fault]) -> ModelFacts | None:
    if isinstance(judge, ChatJudge):
        template = partial(load_template, judge.template or f"chat_{judge.reply}", texts=TEXTS, data=DATA)
        faults += _template_faults(loaded, path, template, judge.list_template)
    if isinstance(judge, ChatJudge | PythonJudge | ProgramJudge):
        return None
    if isinstance(judge, RubricJudge):
        try:
            load_prompts(judge, loaded.base_dir)
        except UserError as error:
            faults.append(loaded.fault((*path, "template"), _without_subject(str(error), "template ")))
        return None
    facts = model_facts(loaded, (*path, "model"), judge.model, faults)
    key = "max_model_len" if isinstance(judge, VerdictTokensJudge) else "max_tokens"
    wanted = getattr(judge, key)
    if facts is not None and facts.max_context is not None and wanted > facts.max_context:
        faults.append(loaded.fault((*path, key), f"the model's own context is {facts.max_context}; lower it"))
    if isinstance(judge, VerdictTokensJudge):
        template = partial(load_template, judge.template, texts=TEXTS, data=DATA)
        faults += _template_faults(loaded, path, template, judge.list_template)
    return facts


def _template_faults(
    loaded: LoadedRecipe, path: KeyPath, template: Callable[..., object], list_template: str
) -> Iterator[Fault]:
    listed = partial(load_list_template, list_template, texts=LIST_TEXTS, data=LIST_DATA)
    for key, load in (("template", template), ("list_template", listed)):
        try:
            load(base_dir=loaded.base_dir)
        except UserError as error:
            yield loaded.fault((*path, key), _without_subject(str(error), "template "))


def _calibration(loaded: LoadedRecipe) -> Iterator[Fault]:
    """Pairs with a known answer that cannot be read, or that have not the fields that the judge reads."""
    rewards, path = loaded.recipe.rewards, ("rewards", "calibration", "file")
    if not isinstance(rewards, TournamentRewards) or rewards.calibration is None:
        return
    try:
        pairs = load_pairs(rewards.calibration.file, loaded.base_dir)
    except UserError as error:
        yield loaded.fault(path, _without_subject(str(error), "calibration.file "))
        return
    wanted = {name for key, name in named_fields(loaded.recipe) if key[:2] == ("rewards", "judge")}
    for name in sorted(wanted):
        if lacking := next((pair.prompt.id for pair in pairs if name not in pair.prompt.fields), None):
            yield loaded.fault(path, f"the judge reads field '{name}', and pair {lacking} has none; add fields.{name}")


def model_facts(loaded: LoadedRecipe, path: KeyPath, name: str, faults: list[Fault]) -> ModelFacts | None:
    try:
        return locate_model(name)
    except UserError as error:
        faults.append(loaded.fault(path, _without_subject(str(error), "model ")))
        return None


def _source(loaded: LoadedRecipe, faults: list[Fault]) -> SourceFacts:
    recipe = loaded.recipe
    try:
        facts = source_facts(recipe.task, recipe.seed, loaded.base_dir)
    except UserError as error:
        faults += [_fault_of(loaded, line, ("task", "source")) for line in str(error).splitlines()]
        return SourceFacts()
    if facts.num_train is not None and facts.num_train < 1:
        rule = "the source has no more prompts than that, so none is left to train on; lower it"
        faults.append(loaded.fault(("task", "heldout"), rule))
    elif facts.num_train is not None and facts.num_train < recipe.rollouts.prompts_per_step:
        rule = f"only {facts.num_train} prompts are there to train on; lower it or task.heldout, or add prompts"
        faults.append(loaded.fault(("rollouts", "prompts_per_step"), rule))
    for path, name in named_fields(recipe):
        if facts.fields is not None and name not in facts.fields:
            rule = f"no prompt has a field '{name}'; they have: {', '.join(sorted(facts.fields))}"
            faults.append(loaded.fault(path, rule, did_you_mean(name, facts.fields)))
    return facts


def _noticed(recipe: Recipe, source: SourceFacts) -> Iterator[str]:
    """What is no fault and yet hardly meant, or is not here and may be where the run will be."""
    if isinstance(recipe.task, FreeformTask | SlateRankTask):
        for name in unclosed(recipe.task.template, source.fields or ()):
            yield f"task.template: '{{{name}' has no closing brace and stays as it is; write {{{name}}}"
    for path, rule in absent(recipe):
        yield f"{'.'.join(map(str, path))}: {rule} (where podium train runs)"


def _objective(loaded: LoadedRecipe, faults: list[Fault]) -> Objective | None:
    try:
        return recipe_objective(loaded.recipe)
    except UserError as error:
        faults.append(_fault_of(loaded, str(error), ("rl", "objective")))
        return None


def _plugin_faults(loaded: LoadedRecipe) -> Iterator[Fault]:
    """Import paths that lead nowhere."""
    recipe = loaded.recipe
    targets: list[tuple[KeyPath, str]] = []
    if isinstance(recipe.task, PythonTask):
        targets.append((("task", "target"), recipe.task.target))
    if isinstance(recipe.rewards, ScorerRewards):
        if recipe.rewards.target is not None:
            targets.append((("rewards", "target"), recipe.rewards.target))
    elif recipe.rewards.prior_scorer is not None:
        targets.append((("rewards", "prior_scorer"), recipe.rewards.prior_scorer))
    for index, gate in enumerate(recipe.rewards.gates):
        if isinstance(gate, PythonGate):
            targets.append((("rewards", "gates", index, "target"), gate.target))
    for path, judge in judges_of(recipe).values():
        if isinstance(judge, PythonJudge):
            targets.append(((*path, "target"), judge.target))
    for path, target in targets:
        try:
            locate(target)
        except UserError as error:
            yield loaded.fault(path, _without_subject(str(error), "target "))


def _device_faults(
    recipe: Recipe, device: Device, machine: Machine, ray_address: str | None
) -> Iterator[tuple[KeyPath, str]]:
    """What this machine cannot do; a cluster elsewhere may."""
    if ray_address is not None:
        return
    if device == "cpu":
        if recipe.launch.device == "auto":
            yield from cpu_faults(recipe)
        return
    if not machine.gpus:
        yield ("launch", "device"), "no GPU can be seen here; use auto or cpu, or name a cluster in launch.ray_address"
    elif (needed := gpus_needed(recipe)) > len(machine.gpus):
        rule = f"needs {needed} GPUs and {len(machine.gpus)} can be seen; use fewer engines or ranks, or a cluster"
        yield ("launch", "device"), rule


def _cache_faults(
    recipe: Recipe, policy: ModelFacts | None, judges: Mapping[str, ModelFacts | None]
) -> Iterator[tuple[KeyPath, str]]:
    """KV caches on a CPU that cannot hold one text of full length: vLLM would not start."""
    engine = recipe.rollouts.engine
    caches: list[tuple[KeyPath, ModelFacts | None, float, str, int]] = [
        (("rollouts", "engine"), policy, engine.kv_cache_gib, engine.dtype, max_model_len(recipe))
    ]
    for role, (path, judge) in judges_of(recipe).items():
        if isinstance(judge, VerdictTokensJudge):
            caches.append((path, judges[role], judge.kv_cache_gib, EngineConfig().dtype, judge.max_model_len))
    for path, facts, gib, dtype, longest in caches:
        held = None if facts is None else kv_tokens(gib, facts, dtype)
        if held is not None and held < longest:
            yield (*path, "kv_cache_gib"), f"holds {held} tokens, fewer than the {longest} of one full text; raise it"


def _fault_of(loaded: LoadedRecipe, message: str, default: KeyPath) -> Fault:
    """An error that may open with the key it is about, `rl.objective.advantage: ...`, as a fault at that key."""
    opening = re.match(r"((?:task|rl|rollouts|rewards)(?:\.\w+)+)(?: = [^:]*)?: ", message)
    if opening is None:
        return loaded.fault(default, message)
    return loaded.fault(tuple(opening[1].split(".")), message[opening.end() :])


def _without_subject(message: str, subject: str) -> str:
    """An error without its opening `model 'name': `, which the line says already."""
    opening, colon, rest = message.partition(": ")
    return rest if colon and opening.startswith(subject) else message
