"""Upper bounds that follow from a recipe alone: judge calls and token counts. Pure arithmetic, nothing is built.

A call is one question to a judge, its retries not counted; gates and failed rollouts only make it less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rewards.config import RewardsConfig, TournamentRewards
from rewards.judge_config import ChatJudge, JudgeConfig, PanelJudge, is_symmetric, single_judges, verdict_of
from rewards.topologies import build_topology
from rewards.topology_config import Adaptive, KWise
from rewards.types import VerdictKind

if TYPE_CHECKING:
    from recipes.schema import Recipe


@dataclass(frozen=True, slots=True)
class JudgeCalls:
    """Upper bounds; `audit` calls go to the second judge and are not in the others. votes: requests behind one call of
    a chat judge, at most."""

    per_group: int
    per_step: int
    per_evaluation: int
    num_evaluations: int
    per_run: int
    audit: int
    votes: int = 1


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
    return _least(most, rewards.budget.calls_per_group, rewards.budget.calls_per_step)


def calls_per_step(rewards: RewardsConfig, group_size: int, num_groups: int) -> int:
    """Of a step's groups together: a batch topology has one budget for all, of which one group may get most."""
    most = calls_per_group(rewards, group_size) * num_groups
    if isinstance(rewards, TournamentRewards) and isinstance(rewards.topology, Adaptive):
        opening = (group_size + 1) // 2 * calls_per_match(rewards)
        most = min(most, num_groups * max(rewards.topology.calls_per_group, opening))
    if isinstance(rewards, TournamentRewards):
        most = _least(most, rewards.budget.calls_per_step, rewards.budget.calls_per_run)
        most += num_groups * calibration_calls(rewards.judge)
    return most


def most_votes(judge: JudgeConfig) -> int:
    """Requests behind one call, at most."""
    return max(one.votes if isinstance(one, ChatJudge) else 1 for one in single_judges(judge))


def calibration_calls(judge: JudgeConfig) -> int:
    """Calls about known pairs for each group, at most; a group's budget knows nothing of them."""
    if not isinstance(judge, PanelJudge) or judge.reputation is None or judge.reputation.calibration is None:
        return 0
    return math.ceil(judge.reputation.calibration.per_group) * len(judge.members)


def _least(bound: int, *others: int | None) -> int:
    return min([bound, *(other for other in others if other is not None)])


def num_evaluations(num_steps: int, every: int | None) -> int:
    """Every so many steps, and always after the last."""
    return 1 if every is None else num_steps // every + (num_steps % every != 0)


def judge_calls(recipe: Recipe) -> JudgeCalls:
    """Training plays the topology; evaluation plays answer i against answer i of the starting model, in both orders."""
    evaluation = recipe.evaluation
    games = evaluation.num_prompts * evaluation.rollouts_per_prompt
    per_group = calls_per_group(recipe.rewards, recipe.rollouts.group_size)
    per_step = calls_per_step(recipe.rewards, recipe.rollouts.group_size, recipe.rollouts.prompts_per_step)
    per_evaluation, per_run = 0, None
    if isinstance(recipe.rewards, TournamentRewards):
        per_run = recipe.rewards.budget.calls_per_run
        per_evaluation = games * calls_in(True, recipe.rewards.judge)
    times = num_evaluations(recipe.rl.num_steps, evaluation.every)
    audit = evaluation.audit_judge
    return JudgeCalls(
        per_group=per_group,
        per_step=per_step,
        per_evaluation=per_evaluation,
        num_evaluations=times,
        per_run=_least(per_step * recipe.rl.num_steps, per_run) + per_evaluation * times,
        audit=games * calls_in(True, audit) if audit else 0,
        votes=most_votes(recipe.rewards.judge) if isinstance(recipe.rewards, TournamentRewards) else 1,
    )
