"""What a recipe's rewards mean, and the objective that follows: the bridge from `rewards` to `rl`."""

from __future__ import annotations

from recipes.bounds import verdict_kind
from recipes.schema import Recipe
from rewards.aggregator_config import EmpiricalBayes
from rewards.aggregators import reward_unit
from rewards.config import RewardsConfig, TournamentRewards
from rl.objectives import Objective, RewardKind, resolve_objective
from rollouts.config import FreeformTask


def reward_kind(rewards: RewardsConfig) -> RewardKind:
    """What a reward's number means to `rl/objectives.py`."""
    if not isinstance(rewards, TournamentRewards):
        return "metric"
    unit = reward_unit(rewards.aggregator, verdict_kind(rewards))
    return "score" if unit == "strength" else "win_probability"


def is_shrunk(rewards: RewardsConfig) -> bool:
    """True if a posterior has already pulled groups together that the judge cannot tell apart."""
    return isinstance(rewards, TournamentRewards) and isinstance(rewards.aggregator, EmpiricalBayes)


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
        has_segments=False if isinstance(recipe.task, FreeformTask) else None,
        updates_per_step=recipe.rl.updates_per_step,
    )
