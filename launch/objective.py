"""What a recipe's rewards mean, and the objective that follows: the bridge from `rewards` to `rl`."""

from __future__ import annotations

from recipes.bounds import verdict_kind
from recipes.schema import Recipe
from rewards.aggregator_config import EmpiricalBayes
from rewards.aggregators import reward_unit
from rewards.config import RewardsConfig, ScorerRewards, TournamentRewards
from rl.objectives import Objective, RewardKind, resolve_objective
from rollouts.config import FreeformTask, PythonTask


def reward_kind(rewards: RewardsConfig) -> RewardKind:
    """What a reward's number means to `rl/objectives.py`."""
    if not isinstance(rewards, TournamentRewards):
        return "metric"
    unit = reward_unit(rewards.aggregator, verdict_kind(rewards))
    return "score" if unit == "strength" else "win_probability"


def is_shrunk(rewards: RewardsConfig) -> bool:
    """True if a posterior has already pulled groups together that the judge cannot tell apart."""
    return isinstance(rewards, TournamentRewards) and isinstance(rewards.aggregator, EmpiricalBayes)


def has_segments(recipe: Recipe) -> bool | None:
    """Whether answers have segments with rewards of their own; None where only your own code knows."""
    task, rewards = recipe.task, recipe.rewards
    if not isinstance(rewards, ScorerRewards) or isinstance(task, FreeformTask):
        return False
    return None if isinstance(task, PythonTask) or rewards.scorer is None else True


def recipe_objective(recipe: Recipe) -> Objective:
    """The objective with every knob filled.

    Raises:
        UserError: an advantage or knob that contradicts the rewards or the preset; names its key.
    """
    return resolve_objective(
        recipe.rl.objective,
        reward_kind=reward_kind(recipe.rewards),
        shrunk=is_shrunk(recipe.rewards),
        max_tokens=recipe.rollouts.max_tokens,
        has_segments=has_segments(recipe),
        updates_per_step=recipe.rl.updates_per_step,
        staleness=recipe.rl.staleness,
    )
