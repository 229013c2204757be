"""Upper bounds that follow from a recipe alone: judge calls and token counts. Pure arithmetic, nothing is built.

A call is one question to a judge, its retries not counted; gates and failed rollouts only make it less. That a model
writes criteria for a prompt is a call too, once per prompt: counted for every group, since no group need come twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rewards.budget import split_budget
from rewards.config import CallBudget, RewardsConfig, TournamentRewards
from rewards.judge_config import JudgeConfig, RubricJudge, is_symmetric, single_judges, verdict_of
from rewards.topologies import build_topology
from rewards.topology_config import Adaptive, KWise
from rewards.types import VerdictKind
from rewards.voting_config import VotingJudge

if TYPE_CHECKING:
    from recipes.schema import Recipe


@dataclass(frozen=True, slots=True)
class JudgeCalls:
    """Upper bounds; `audit` calls go to the second judge and are not in the others: those of the whole run, of which
    audit_per_step are about each step's pairs. votes: requests behind one call about a match, at most. writing: calls
    of a group that write criteria, which the others include."""

    per_group: int
    per_step: int
    """Of the step's groups and of all its refills (`rl.dynamic_sampling`)."""
    per_evaluation: int
    num_evaluations: int
    per_run: int
    audit: int
    audit_per_step: int = 0
    votes: int = 1
    writing: int = 0


def verdict_kind(rewards: TournamentRewards) -> VerdictKind:
    """Of the match logs of training: places are hard, whatever the judge says of pairs."""
    if isinstance(rewards.topology, KWise):
        return "hard"
    return verdict_of(rewards.judge)


def calls_per_match(rewards: TournamentRewards) -> int:
    """At most; `both_if_close` may ask less. Every member of a panel is asked."""
    return calls_in(rewards.orders in ("both", "both_if_close"), rewards.judge)


def calls_in(both_orders: bool, judge: JudgeConfig) -> int:
    """Calls about one pair."""
    return sum(1 if is_symmetric(one) or not both_orders else 2 for one in single_judges(judge))


def calls_per_group(rewards: RewardsConfig, group_size: int) -> int:
    if not isinstance(rewards, TournamentRewards):
        return 0
    most = build_topology(rewards.topology).max_matches(group_size) * calls_per_match(rewards)
    most += writing_calls(rewards.judge)
    return _least(most, rewards.budget.calls_per_group, rewards.budget.calls_per_step)


def calls_per_step(rewards: RewardsConfig, group_size: int, num_groups: int) -> int:
    """Of a step's groups together: a batch topology has one budget for all, of which one group may get most."""
    most = calls_per_group(rewards, group_size) * num_groups
    if isinstance(rewards, TournamentRewards) and isinstance(rewards.topology, Adaptive):
        opening = (group_size + 1) // 2 * calls_per_match(rewards)
        per_group = max(rewards.topology.calls_per_group, opening) + writing_calls(rewards.judge)
        most = min(most, num_groups * per_group)
    if isinstance(rewards, TournamentRewards):
        most += num_groups * calibration_calls(rewards)
        most = _least(most, rewards.budget.calls_per_step, rewards.budget.calls_per_run)
    return most


def groups_per_step(recipe: Recipe) -> int:
    """Groups that a step samples and judges at most: its own, and all again in every refill."""
    refills = 0 if recipe.rl.dynamic_sampling is None else recipe.rl.dynamic_sampling.max_rounds
    return recipe.rollouts.prompts_per_step * (1 + refills)


def most_votes(judge: JudgeConfig) -> int:
    """Requests behind one call, at most."""
    return max(one.votes if isinstance(one, VotingJudge) else 1 for one in single_judges(judge))


def writing_calls(judge: JudgeConfig) -> int:
    """Calls that write criteria for a prompt, once each."""
    return sum(isinstance(one, RubricJudge) and one.criteria_from == "prompt" for one in single_judges(judge))


def calibration_calls(rewards: TournamentRewards) -> int:
    """Calls about known pairs for each group, at most; they are in the step's budget, not in the group's."""
    if rewards.calibration is None:
        return 0
    each = len(single_judges(rewards.judge)) + writing_calls(rewards.judge)
    return math.ceil(rewards.calibration.per_group) * each


def pairs_per_item(rewards: TournamentRewards, group_size: int) -> int:
    """Pairs that a match or slate decides, at most."""
    return math.comb(min(rewards.topology.k, group_size), 2) if isinstance(rewards.topology, KWise) else 1


def audit_budget(recipe: Recipe) -> tuple[CallBudget, CallBudget]:
    """The parts of `rewards.budget` of the judge that trains and of the second one, by their calls."""
    rewards, audit, share = recipe.rewards, recipe.evaluation.audit_judge, recipe.evaluation.audit_share
    if not isinstance(rewards, TournamentRewards):
        return CallBudget(), CallBudget()
    if audit is None or not share:
        return rewards.budget, CallBudget()
    pairs = share * pairs_per_item(rewards, recipe.rollouts.group_size)
    return split_budget(rewards.budget, pairs * calls_in(True, audit) / calls_per_match(rewards))


def judged_rewards(recipe: Recipe) -> RewardsConfig:
    """The rewards of training, with the part of their budget that is not the second judge's."""
    if not isinstance(recipe.rewards, TournamentRewards):
        return recipe.rewards
    return recipe.rewards.model_copy(update={"budget": audit_budget(recipe)[0]})


def audit_calls_per_step(recipe: Recipe) -> int:
    """Calls of the second judge about the pairs of a step: its share of them, rounded up for every batch."""
    rewards, audit, share = judged_rewards(recipe), recipe.evaluation.audit_judge, recipe.evaluation.audit_share
    if not isinstance(rewards, TournamentRewards) or audit is None or not share:
        return 0
    size, budget = recipe.rollouts.group_size, audit_budget(recipe)[1]
    items = build_topology(rewards.topology).max_matches(size)
    pairs = share * items * pairs_per_item(rewards, size) * recipe.rollouts.prompts_per_step
    batches = groups_per_step(recipe) // recipe.rollouts.prompts_per_step
    most = batches * math.ceil(pairs - 1e-9) * calls_in(True, audit) + groups_per_step(recipe) * writing_calls(audit)
    return _least(most, budget.calls_per_step, budget.calls_per_run)


def _least(bound: int, *others: int | None) -> int:
    return min([bound, *(other for other in others if other is not None)])


def num_evaluations(num_steps: int, every: int | None) -> int:
    """Every so many steps, and always after the last."""
    return 1 if every is None else num_steps // every + (num_steps % every != 0)


def judge_calls(recipe: Recipe) -> JudgeCalls:
    """Training plays the topology; evaluation plays answer i against answer i of the starting model, in both orders."""
    evaluation = recipe.evaluation
    rewards = judged_rewards(recipe)
    per_group = calls_per_group(rewards, recipe.rollouts.group_size)
    per_step = calls_per_step(rewards, recipe.rollouts.group_size, groups_per_step(recipe))
    per_evaluation, per_run = 0, None
    if isinstance(rewards, TournamentRewards):
        per_run = rewards.budget.calls_per_run
        per_evaluation = _evaluation_calls(recipe, rewards.judge)
    times = num_evaluations(recipe.rl.num_steps, evaluation.every)
    audit = evaluation.audit_judge
    audit_per_step = audit_calls_per_step(recipe)
    audit_in_training = _least(audit_per_step * recipe.rl.num_steps, audit_budget(recipe)[1].calls_per_run)
    return JudgeCalls(
        per_group=per_group,
        per_step=per_step,
        per_evaluation=per_evaluation,
        num_evaluations=times,
        per_run=_least(per_step * recipe.rl.num_steps, per_run) + per_evaluation * times,
        audit=audit_in_training + (_evaluation_calls(recipe, audit) if audit else 0),
        audit_per_step=audit_per_step,
        votes=most_votes(rewards.judge) if isinstance(rewards, TournamentRewards) else 1,
        writing=writing_calls(rewards.judge) if isinstance(rewards, TournamentRewards) else 0,
    )


def _evaluation_calls(recipe: Recipe, judge: JudgeConfig) -> int:
    evaluation = recipe.evaluation
    games = evaluation.num_prompts * evaluation.rollouts_per_prompt
    return games * calls_in(True, judge) + evaluation.num_prompts * writing_calls(judge)
