"""What `rl.objective.criteria` needs of the rewards: as `recipes/checks.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rewards.config import ScorerRewards
from rewards.judge_config import PythonJudge, criteria_of, single_judges
from rewards.rubric_config import RubricJudge
from rewards.topology_config import KWise

if TYPE_CHECKING:
    from recipes.schema import Recipe


def criteria_faults(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Learning from criteria needs rewards that speak of them, by the names that the recipe uses."""
    config, rewards = recipe.rl.objective.criteria, recipe.rewards
    if config is None:
        return
    path = ("rl", "objective", "criteria")
    cure = "use a judge of kind rubric, a python judge or a scorer target that gives criteria, or leave this out"
    if isinstance(rewards, ScorerRewards):
        if rewards.scorer is not None:
            yield path, f"rewards.scorer {rewards.scorer.kind} gives no criteria: {cure}"
        return
    if isinstance(rewards.topology, KWise):
        yield path, "rewards.topology k_wise ranks answers as wholes, and no ranking speaks of criteria; choose another"
        return
    if not any(isinstance(judge, RubricJudge | PythonJudge) for judge in single_judges(rewards.judge)):
        yield path, f"rewards.judge of kind {rewards.judge.kind} gives no criteria: {cure}"
        return
    known = criteria_of(rewards.judge)
    for name in config.weights if known is not None else ():
        if known is not None and name not in known:
            yield (*path, "weights", name), f"the judge speaks of no such criterion; it has: {', '.join(known)}"
