"""What a recipe takes from the machine that its driver runs on: keys in the environment, programs on PATH.

podium check   says as a warning what is not here, for the run may be elsewhere
train, eval    refuse to begin without it
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from launch.plan import judges_of
from recipes.load import LoadedRecipe
from recipes.messages import RecipeError
from recipes.reward_checks import KeyPath
from recipes.schema import Recipe
from rewards.gate_config import CommandGate
from rewards.voting_config import VotingJudge


def absent(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """What is not here, each with the key that names it."""
    for path, judge in judges_of(recipe).values():
        name = judge.endpoint.api_key_env if isinstance(judge, VotingJudge) else None
        if name is not None and not os.environ.get(name, "").strip():
            yield (*path, "endpoint", "api_key_env"), f"environment variable {name} is not set; it is to hold the key"
    for index, gate in enumerate(recipe.rewards.gates):
        if isinstance(gate, CommandGate) and shutil.which(gate.command[0]) is None:
            rule = f"no program {gate.command[0]!r} on PATH; install it, or give its path"
            yield ("rewards", "gates", index, "command"), rule


def refuse_absent(loaded: LoadedRecipe) -> None:
    """Raises RecipeError: one line for each."""
    if faults := [loaded.fault(path, rule) for path, rule in absent(loaded.recipe)]:
        raise RecipeError(faults)
