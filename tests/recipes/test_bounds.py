"""Upper bounds on judge calls, by hand and against the topologies themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes.bounds import JudgeCalls, calls_per_group, judge_calls, num_evaluations, verdict_kind
from recipes.load import load_recipe
from rewards.config import CallBudget, ScorerRewards, TournamentRewards
from rewards.judge_config import (
    EmbeddingJudge,
    JudgeConfig,
    PanelJudge,
    PanelMember,
    PythonJudge,
    RubricJudge,
    VerdictTokensJudge,
)
from rewards.topology_config import KWise, RoundRobin, SingleElimination, TopologyConfig

FULL = Path(__file__).parent / "data" / "full.yaml"

SYMMETRIC = EmbeddingJudge(kind="embedding", model="m")
PANEL = PanelJudge(
    kind="panel",
    members=(PanelMember(judge=SYMMETRIC), PanelMember(judge=PythonJudge(kind="python", target="a:b"))),
)
ORDERED = VerdictTokensJudge(kind="verdict_tokens", model="m")


@pytest.mark.parametrize(
    ("topology", "group_size", "matches"),
    [
        (RoundRobin(), 2, 1),
        (RoundRobin(), 8, 28),
        (RoundRobin(), 16, 120),
        (SingleElimination(kind="single_elimination", seeding="anchor"), 8, 14),
        (SingleElimination(kind="single_elimination", seeding="random"), 16, 15),
        (KWise(kind="k_wise"), 4, 1),
        (KWise(kind="k_wise"), 16, 20),
        (KWise(kind="k_wise", k=8, rounds=2), 32, 8),
    ],
)
@pytest.mark.parametrize(
    ("judge", "orders", "times"),
    [
        (SYMMETRIC, "both", 1),
        (ORDERED, "both", 2),
        (ORDERED, "random", 1),
        (PythonJudge(kind="python", target="a:b"), "both", 2),
        (PythonJudge(kind="python", target="a:b", symmetric=True), "both", 1),
        (PythonJudge(kind="python", target="a:b"), "both_if_close", 2),
        (PANEL, "both", 3),
        (PANEL, "random", 2),
    ],
)
def test_calls_of_a_group(
    topology: TopologyConfig, group_size: int, matches: int, judge: JudgeConfig, orders: str, times: int
) -> None:
    rewards = TournamentRewards(judge=judge, topology=topology).model_copy(update={"orders": orders})
    assert calls_per_group(rewards, group_size) == matches * times


def test_scorers_ask_no_judge() -> None:
    assert calls_per_group(ScorerRewards(kind="scorer", target="a:b"), 8) == 0


@pytest.mark.parametrize(
    ("num_steps", "every", "times"), [(20, None, 1), (20, 10, 2), (20, 7, 3), (20, 30, 1), (1, 1, 1), (5, 1, 5)]
)
def test_evaluations_come_every_so_many_steps_and_after_the_last(num_steps: int, every: int | None, times: int) -> None:
    steps = {step for step in range(1, num_steps + 1) if (every and step % every == 0) or step == num_steps}
    assert len(steps) == times
    assert num_evaluations(num_steps, every) == times


def test_calls_of_a_whole_run_by_hand() -> None:
    # 8 rollouts: 7 against the anchor and 7 in the bracket, twice; 6 groups; 20 steps. Evaluation: 64 games, both
    # orders, after steps 10 and 20. The embedding judge that audits is symmetric.
    assert judge_calls(load_recipe(FULL).recipe) == JudgeCalls(
        per_group=28,
        per_step=168,
        per_evaluation=128,
        num_evaluations=2,
        per_run=168 * 20 + 2 * 128,
        audit=64,
    )


def test_refills_ask_about_as_many_groups_again_unless_a_budget_ends_them() -> None:
    refills = load_recipe(
        FULL,
        ["rl.dynamic_sampling.max_rounds=3", "rewards.max_calls_per_step=null", "rewards.budget.calls_per_run=null"],
    )
    assert (judge_calls(refills.recipe).per_group, judge_calls(refills.recipe).per_step) == (28, 168 * 4)
    assert judge_calls(refills.recipe).per_run == 168 * 4 * 20 + 2 * 128
    capped = load_recipe(FULL, ["rl.dynamic_sampling.max_rounds=3", "rewards.budget.calls_per_step=200"])
    assert judge_calls(capped.recipe).per_step == 200


RUBRIC = {
    "kind": "rubric",
    "endpoint": {"base_url": "http://h/v1", "model": "m", "temperature": 1.0},
    "rubric": {},
    "criteria_from": "prompt",
}


def test_criteria_that_are_written_once_per_prompt_are_calls(tmp_path: Path) -> None:
    judge = RubricJudge.model_validate_json(json.dumps(RUBRIC))
    # 8 rollouts, all pairs, both orders: 56, and one that writes.
    assert calls_per_group(TournamentRewards(judge=judge), 8) == 57
    assert calls_per_group(TournamentRewards(judge=judge.model_copy(update={"criteria_from": "pair"})), 8) == 56
    both = PanelJudge(kind="panel", members=(PanelMember(judge=judge), PanelMember(judge=judge, name="other")))
    assert calls_per_group(TournamentRewards(judge=both), 8) == 114
    recipe = load_recipe(FULL).recipe
    rewards = TournamentRewards(judge=judge)
    calls = judge_calls(recipe.model_copy(update={"rewards": rewards}))
    # 6 groups a step, 20 steps; 64 prompts at an evaluation, a game each in both orders, twice in the run.
    assert (calls.per_step, calls.per_evaluation) == (57 * 6, 64 * 2 + 64)
    assert calls.per_run == 57 * 6 * 20 + 2 * 192
    assert (calls.writing, calls.votes) == (1, 1)
    capped = rewards.model_copy(update={"budget": CallBudget(calls_per_step=100)})
    assert judge_calls(recipe.model_copy(update={"rewards": capped})).per_step == 100


def test_requests_behind_a_call_of_a_rubric_judge() -> None:
    judge = RubricJudge.model_validate_json(json.dumps(RUBRIC | {"votes": 5}))
    recipe = load_recipe(FULL).recipe.model_copy(update={"rewards": TournamentRewards(judge=judge)})
    assert judge_calls(recipe).votes == 5


def test_rankings_are_hard_whatever_the_judge_says_of_pairs() -> None:
    pairs = TournamentRewards(judge=SYMMETRIC)
    assert verdict_kind(pairs) == "score"
    assert verdict_kind(pairs.model_copy(update={"topology": KWise(kind="k_wise")})) == "hard"
