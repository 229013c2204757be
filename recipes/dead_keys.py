"""Keys that would do nothing beside the others of a recipe: refused, because whoever sets one counts on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recipes.bounds import verdict_kind
from recipes.messages import nearest
from rewards.aggregator_config import EmpiricalBayes, TrueSkill
from rewards.config import WITH_A_NOISE_MODEL, TournamentRewards
from rewards.judge_config import PanelJudge, RubricJudge, judge_name, single_judges
from rewards.topology_config import Anchor, prior_key
from rewards.types import ROUTER

if TYPE_CHECKING:
    from recipes.schema import Recipe

Fault = tuple[tuple[str | int, ...], str]


def dead_keys(recipe: Recipe) -> Iterator[Fault]:
    yield from _reliability(recipe)
    if isinstance(recipe.rewards, TournamentRewards):
        yield from _scores(recipe.rewards)
        yield from _weights(recipe.rewards)
        yield from _prior(recipe.rewards)


def _reliability(recipe: Recipe) -> Iterator[Fault]:
    who = "a scorer"
    if isinstance(recipe.rewards, TournamentRewards):
        aggregator = recipe.rewards.aggregator
        who = None if isinstance(aggregator, WITH_A_NOISE_MODEL) else f"rewards.aggregator {aggregator.kind}"
    if recipe.rl.min_batch_reliability > 0.0 and who is not None:
        rule = f"{who} has no noise model, so no batch has a reliability and none would be skipped; leave it out"
        yield ("rl", "min_batch_reliability"), rule


def _scores(rewards: TournamentRewards) -> Iterator[Fault]:
    aggregator, kind = rewards.aggregator, verdict_kind(rewards)
    if not isinstance(aggregator, EmpiricalBayes) or kind == "score":
        return
    for key, is_set in (
        ("score_error", aggregator.score_error is not None),
        ("score_rewards", aggregator.score_rewards != "strength"),
    ):
        if is_set:
            said = "a win or a tie" if kind == "hard" else "a probability"
            yield ("rewards", "aggregator", key), f"is about scores, and a verdict here is {said}; leave it out"


def _weights(rewards: TournamentRewards) -> Iterator[Fault]:
    if isinstance(rewards.aggregator, TrueSkill):
        return
    judge = rewards.judge
    known = list(judge.names) if isinstance(judge, PanelJudge) else [judge_name(judge)]
    if rewards.router is not None:
        known.append(f"{ROUTER}{rewards.router.gate}")
    for name in rewards.aggregator.judge_weights:
        if name not in known:
            hint = nearest(name, known)
            cure = f"did you mean '{hint}'?" if hint else f"there is {', '.join(known)}"
            yield ("rewards", "aggregator", "judge_weights", name), f"no judge here is called so; {cure}"


def _prior(rewards: TournamentRewards) -> Iterator[Fault]:
    """A rubric judge shows the best, a middle and the worst by prior to the model that writes a prompt's criteria."""
    if rewards.prior_scorer is None or prior_key(rewards.topology) is not None:
        return
    if any(isinstance(one, RubricJudge) and one.criteria_from == "prompt" for one in single_judges(rewards.judge)):
        return
    cure = "leave it out"
    if "seeding" in type(rewards.topology).model_fields:
        cure = f"set rewards.topology.seeding to prior, or {cure}"
    elif isinstance(rewards.topology, Anchor):
        cure = f"set rewards.topology.anchors to median, or {cure}"
    yield ("rewards", "prior_scorer"), f"topology {rewards.topology.kind} goes by no prior score here; {cure}"
