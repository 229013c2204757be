"""Whether a recipe's answers have segments is known before a run wherever the task and the scorer are podium's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launch.objective import has_segments, recipe_objective
from launch.sources import source_facts
from recipes.load import load_recipe
from rewards.errors import UserError

TOY = Path(__file__).parents[2] / "recipes" / "fgrpo_toy.yaml"
FREEFORM = "task={kind: freeform, source: {kind: jsonl, path: x.jsonl}, heldout: 400}"
PYTHON = "task={kind: python, target: a:b}"
TOURNAMENT = "rewards={kind: tournament, judge: {kind: python, target: a:b}}"
TARGET = "rewards={kind: scorer, scorer: null, target: a:b}"


@pytest.mark.parametrize(
    ("overrides", "known"),
    [
        ([], True),
        ([TOURNAMENT], False),
        ([FREEFORM, TARGET], False),
        ([TARGET], None),  # a mapping of segments, or one number
        ([PYTHON], None),
        ([PYTHON, TARGET], None),
    ],
)
def test_segments_are_known_or_for_the_run_to_see(overrides: list[str], known: bool | None) -> None:
    recipe = load_recipe(TOY, overrides).recipe
    assert has_segments(recipe) is known
    if known is False:
        with pytest.raises(UserError, match="f_grpo needs a task whose answers have segments"):
            recipe_objective(recipe)
    else:
        assert recipe_objective(recipe).uses_segments


@pytest.mark.parametrize(
    ("name", "uses_segments", "sees"),
    [("fgrpo_toy", True, 0.0), ("fgrpo_reward_to_go_toy", True, 1.0), ("grpo_joint_toy", False, 0.0)],
)
def test_the_toys_differ_in_their_objectives_alone(name: str, uses_segments: bool, sees: float) -> None:
    recipe, base = (load_recipe(TOY.with_name(f"{one}.yaml")).recipe for one in (name, "fgrpo_toy"))
    objective = recipe_objective(recipe)
    assert (objective.uses_segments, objective.slate_sees_rank, objective.advantage) == (uses_segments, sees, "mean")
    same = {"name": "x", "rl": recipe.rl.model_copy(update={"objective": base.rl.objective})}
    assert recipe.model_copy(update=same) == base.model_copy(update={"name": "x"})
    credit = {"kind": "x", "uses_segments": True, "segment_weights": (1.0, 1.0), "slate_sees_rank": 0.0}
    assert replace(objective, **credit) == replace(recipe_objective(base), **credit)


def test_pools_are_counted_before_the_run() -> None:
    loaded = load_recipe(TOY)
    facts = source_facts(loaded.recipe.task, loaded.recipe.seed, loaded.base_dir)
    assert (facts.num_train, facts.num_heldout) == (1600, 400)
    assert facts.fields == {"query", "items", "relevant"}
