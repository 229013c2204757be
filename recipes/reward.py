"""The reward side of a recipe by itself: what `podium serve`, `score` and `rejudge` read. A whole recipe does too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from recipes.load import load_recipe, read_tree
from recipes.schema import LaunchConfig, Recipe
from recipes.validate import validate
from rewards.config import RewardsConfig
from rewards.strict import StrictModel

OF_A_POLICY = frozenset({"model", "task", "rollouts", "rl", "evaluation", "tracking"})
"""A file with one of these keys is a whole recipe, and judged as one."""


class RewardRecipe(StrictModel):
    """Judge, topology, aggregator and limits, without a policy."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "rewards"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of brackets, seats and fences."""
    rewards: RewardsConfig
    launch: LaunchConfig = LaunchConfig()
    """`device` and `ray_address`, for judges that run in an engine."""


@dataclass(frozen=True, slots=True)
class LoadedRewards:
    """`base_dir` is the folder of the file; the paths inside `recipe` are absolute already."""

    recipe: RewardRecipe
    path: Path
    base_dir: Path


def load_rewards(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedRewards:
    """Reads as `load_recipe` does, from a recipe of the reward side or from a whole one.

    Raises:
        RecipeError: one line per fault, each with file and line.
    """
    read = read_tree(path, overrides)
    tree, file = read.tree, read.file
    if isinstance(tree.value, dict) and OF_A_POLICY & tree.value.keys():
        recipe = reward_side(load_recipe(path, overrides).recipe)
    else:
        recipe = validate(tree, RewardRecipe)
    return LoadedRewards(recipe, file, file.parent.absolute())


def reward_side(recipe: Recipe) -> RewardRecipe:
    """The reward side of a whole recipe."""
    return RewardRecipe(name=recipe.name, seed=recipe.seed, rewards=recipe.rewards, launch=recipe.launch)
