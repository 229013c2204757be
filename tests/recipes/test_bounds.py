"""Upper bounds on judge calls, by hand and against the topologies themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.bounds import JudgeCalls, calls_per_group, judge_calls, num_evaluations, verdict_kind
from recipes.load import load_recipe
from rewards.config import ScorerRewards, TournamentRewards
from rewards.judge_config import (
    EmbeddingJudge,
    JudgeConfig,
    PanelJudge,
    PanelMember,
    PythonJudge,
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


def test_rankings_are_hard_whatever_the_judge_says_of_pairs() -> None:
    pairs = TournamentRewards(judge=SYMMETRIC)
    assert verdict_kind(pairs) == "score"
    assert verdict_kind(pairs.model_copy(update={"topology": KWise(kind="k_wise")})) == "hard"
