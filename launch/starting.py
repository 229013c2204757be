"""The model that RL starts from: `rl.init_from` where the recipe has it, else `model.path`."""

from __future__ import annotations

from pathlib import Path

from recipes.schema import Recipe
from rl.start_model import start_directory
from rollouts.models import ModelFacts, locate_model, resolve_model


def start_model(recipe: Recipe) -> Path:
    """Its directory, converted or downloaded first where needed.

    Raises:
        UserError: there is no such model.
    """
    if recipe.rl.init_from is None:
        return resolve_model(recipe.model.path)
    return resolve_model(str(start_directory(recipe.rl.init_from)))


def locate_start(recipe: Recipe) -> ModelFacts:
    """What is known of it without loading it.

    Raises:
        UserError: there is no such model, or it is incomplete.
    """
    if recipe.rl.init_from is None:
        return locate_model(recipe.model.path)
    return locate_model(str(start_directory(recipe.rl.init_from)))


def pin_start(recipe: Recipe) -> Recipe:
    """The recipe with `rl.init_from` as a model directory: a run that is named may get later checkpoints.

    Raises:
        UserError: there is nothing to start from.
    """
    if recipe.rl.init_from is None:
        return recipe
    pinned = recipe.rl.model_copy(update={"init_from": str(start_directory(recipe.rl.init_from))})
    return recipe.model_copy(update={"rl": pinned})
