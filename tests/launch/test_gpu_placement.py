"""Which bundles are booked for engines and ranks: pure, no GPU and no cluster."""

from __future__ import annotations

import pytest

from launch.gpu_placement import Placement, gpu_bundles, place
from recipes.load import load_recipe
from recipes.messages import RecipeError
from recipes.schema import Recipe
from tests.launch.fakes import FULL

ONE_GPU = {"GPU": 1.0, "CPU": 1.0}


def recipe(*overrides: str) -> Recipe:
    return load_recipe(FULL, ["launch.device=cuda", "rollouts.engines_per_node=null", *overrides]).recipe


def test_separate_engines_have_a_bundle_each_and_ranks_theirs() -> None:
    assert gpu_bundles(recipe("rl.learner.ranks=3")) == ([ONE_GPU] * 5, [0, 1], 2)


def test_a_tensor_parallel_engine_has_all_its_gpus_on_one_node() -> None:
    bundles, engine_bundle, first_rank = gpu_bundles(recipe("rollouts.engine.tensor_parallel_size=4"))
    assert bundles == [{"GPU": 4.0, "CPU": 1.0}] * 2 + [ONE_GPU] * 2
    assert (engine_bundle, first_rank) == ([0, 1], 2)


def test_engines_of_one_node_share_a_bundle_and_the_last_may_be_smaller() -> None:
    bundles, engine_bundle, first_rank = gpu_bundles(
        recipe("rollouts.engines=5", "rollouts.engines_per_node=2", "rollouts.engine.tensor_parallel_size=2")
    )
    assert bundles[:3] == [{"GPU": gpus, "CPU": 1.0} for gpus in (4.0, 4.0, 2.0)]
    assert (engine_bundle, first_rank) == ([0, 0, 1, 1, 2], 3)
    assert bundles[3:] == [ONE_GPU] * 2


def test_a_colocated_engine_shares_one_gpu_with_the_rank_of_its_number() -> None:
    colocated = recipe("rollouts.placement=colocated", "rollouts.engines=3", "rl.learner.ranks=3")
    assert gpu_bundles(colocated) == ([ONE_GPU] * 3, [0, 1, 2], 0)


def test_colocated_engines_are_not_tensor_parallel() -> None:
    """One GPU cannot hold an engine of two, and Ray would wait for it forever."""
    with pytest.raises(RecipeError, match=r"tensor_parallel_size = 2: .* one GPU"):
        recipe("rollouts.placement=colocated", "rollouts.engines=1", "rollouts.engine.tensor_parallel_size=2")


@pytest.mark.parametrize("placement", ["separate", "colocated"])
def test_without_a_learner_engines_are_all_that_is_booked(placement: str) -> None:
    alone = recipe(f"rollouts.placement={placement}", "rollouts.engines=2", "rl.learner.ranks=2")
    assert gpu_bundles(alone, learner=False) == ([ONE_GPU] * 2, [0, 1], 2)


def test_nothing_is_booked_on_a_cpu_host() -> None:
    placement = place(recipe(), "cpu")
    assert placement == Placement(group=None, engine_bundles=None, first_learner_bundle=0)
    assert (placement.engine_share, placement.learner_share) == (1.0, 1.0)
    placement.release()
