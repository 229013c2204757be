"""What `podium sft` looks up before it starts; what only `podium train` needs may not be there yet."""

from __future__ import annotations

from launch.check import model_facts, ray_address, storage_fault, this_machine
from launch.machine import Machine, resolve_device
from launch.sft_data import sft_section
from launch.sft_plan import SFTPlan, plan_sft
from recipes.load import LoadedRecipe
from recipes.messages import Fault, RecipeError
from rl.zero import offload_fault


def check_sft(loaded: LoadedRecipe, machine: Machine | None = None) -> SFTPlan:
    """The plan of `podium sft` with this recipe.

    Raises:
        UserError: the recipe has no `sft` section.
        RecipeError: one line per name that leads nowhere and per thing that this machine cannot do.
    """
    machine = this_machine() if machine is None else machine
    recipe = loaded.recipe
    config = sft_section(recipe)
    faults: list[Fault] = list(storage_fault(loaded))
    device = resolve_device(recipe.launch.device, machine)
    if device == "cpu" and (fault := offload_fault(config.learner)) is not None:
        faults.append(loaded.fault(("sft", "learner", *fault[0]), fault[1]))
    model = model_facts(loaded, ("model", "path"), recipe.model.path, faults)
    num_gpus = len(machine.gpus) if ray_address(recipe) is None else None
    plan = plan_sft(loaded, config, model, device, num_gpus, faults) if model is not None else None
    if faults or plan is None:
        raise RecipeError(faults)
    return plan
