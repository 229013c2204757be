"""Which GPUs engines and learner ranks get: Ray placement groups, nothing on a CPU host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from launch.devices import COLOCATED_ENGINE_SHARE, COLOCATED_LEARNER_SHARE, Device
from recipes.schema import Recipe
from rewards.errors import UserError


def gpu_bundles(recipe: Recipe, *, learner: bool = True) -> tuple[list[dict[str, float]], list[int], int]:
    """Bundles to book, the bundle of each engine, and the first bundle of the learner's ranks. Pure.

    A bundle lies on one node. separate: `engines_per_node` engines share a bundle, with a GPU per tensor-parallel rank
    of each; then a single-GPU bundle per learner rank. colocated: bundle i, one GPU, holds engine i and rank i.
    Without a `learner`, as in `podium eval`, engines have their GPUs to themselves.
    """
    num_engines, num_ranks = recipe.rollouts.engines, recipe.rl.learner.ranks if learner else 0
    one_gpu = {"GPU": 1.0, "CPU": 1.0}
    if recipe.rollouts.placement == "colocated" and learner:
        return [one_gpu] * max(num_engines, num_ranks), list(range(num_engines)), 0
    together = recipe.rollouts.engines_per_node or 1
    engine_bundle = [engine // together for engine in range(num_engines)]
    engines = [
        {"GPU": float(recipe.rollouts.engine.tensor_parallel_size * engine_bundle.count(bundle)), "CPU": 1.0}
        for bundle in range(engine_bundle[-1] + 1)
    ]
    return engines + [one_gpu] * num_ranks, engine_bundle, len(engines)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where engines and ranks go. `group` is None on a CPU host; shares are parts of a GPU."""

    group: Any = None
    engine_bundles: list[tuple[Any, int]] | None = None
    first_learner_bundle: int = 0
    engine_share: float = 1.0
    learner_share: float = 1.0

    def release(self) -> None:
        if self.group is not None:
            ray.util.remove_placement_group(self.group)


def place(recipe: Recipe, device: Device, *, learner: bool = True) -> Placement:
    """Book the GPUs of the engines, and of the learner's ranks if there are any.

    Raises:
        UserError: the cluster has fewer GPUs than the recipe asks for.
    """
    if device == "cpu":
        return Placement()
    bundles, engine_bundle, first_learner_bundle = gpu_bundles(recipe, learner=learner)
    wanted = sum(bundle["GPU"] for bundle in bundles)
    there = ray.cluster_resources().get("GPU", 0.0)
    if wanted > there:
        needs, cure = "rollouts.engines x tensor_parallel_size", "lower them"
        if learner:
            needs, cure = f"{needs} + rl.learner.ranks", f"{cure} or set rollouts.placement: colocated"
        raise UserError(f"{needs} need {wanted:.0f} GPUs, the cluster has {there:.0f}; {cure}")
    group = ray.util.placement_group(bundles, strategy="PACK")
    ray.get(group.ready())
    colocated = recipe.rollouts.placement == "colocated" and learner
    return Placement(
        group=group,
        engine_bundles=[(group, bundle) for bundle in engine_bundle],
        first_learner_bundle=first_learner_bundle,
        engine_share=COLOCATED_ENGINE_SHARE if colocated else 1.0,
        learner_share=COLOCATED_LEARNER_SHARE if colocated else 1.0,
    )
