"""Which orders are asked: both_if_close by kind, agree_else_tie in an arena, and what configs are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rewards import rank_group
from rewards.arena import Arena
from rewards.config import CallLimits, TournamentRewards
from rewards.judge_config import EmbeddingJudge, PythonJudge, VerdictTokensJudge
from rewards.topology_config import KWise, SingleElimination
from rewards.types import Candidate, GroupKey, GroupScore, Match, Prompt, Verdict, VerdictKind

KEY = GroupKey("g")


class Scripted:
    """`values[i, j]`: what it says when i is shown first; None fails."""

    name, symmetric = "scripted", False

    def __init__(self, kind: VerdictKind, values: dict[tuple[int, int], float | None]) -> None:
        self.kind: VerdictKind = kind
        self.values = values
        self.asked: list[tuple[int, int]] = []

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        seats = (int(first.id), int(second.id))
        self.asked.append(seats)
        value = self.values[seats]
        return Verdict(value) if value is not None else Verdict(None, "empty")

    async def close(self) -> None:
        pass


async def play(judge: Scripted, size: int = 2, **keys: Any) -> GroupScore:
    config = TournamentRewards(
        judge=PythonJudge(kind="python", target="a:b", verdict=judge.kind),
        calls=CallLimits(backoff_s=0.0),
        **keys,
    )
    arena = Arena(config, judge)
    await arena.open(KEY, Prompt("p", "task"), size)
    for index in range(size):
        await arena.add(KEY, index, Candidate(str(index), ""))
    return (await arena.scores())[KEY]


def calls_of(match: Match) -> int:
    return len(match.calls)


@pytest.mark.parametrize(
    ("kind", "value", "margin", "num_calls"),
    [
        ("probability", 0.7, None, 2),
        ("probability", 0.8, None, 1),
        ("probability", 0.2, None, 1),
        ("probability", 0.3, None, 2),
        ("probability", 0.7, 0.1, 1),
        ("probability", 0.45, 0.1, 2),
        ("score", 0.9, 1.0, 2),
        ("score", -0.9, 1.0, 2),
        ("score", -1.1, 1.0, 1),
        ("hard", 1.0, None, 1),
        ("hard", 0.5, None, 2),
        ("hard", 0.0, None, 1),
        ("hard", None, None, 1),
    ],
)
async def test_the_second_order_is_asked_only_where_the_first_is_close(
    kind: VerdictKind, value: float | None, margin: float | None, num_calls: int
) -> None:
    judge = Scripted(kind, {(0, 1): value, (1, 0): value})
    score = await play(judge, orders="both_if_close", close_margin=margin)
    assert score.num_calls == num_calls
    assert set(judge.asked) <= {(0, 1), (1, 0)}
    assert len(set(judge.asked)) == num_calls
    assert calls_of(score.matches[0]) == num_calls


async def test_the_first_order_is_drawn_by_lot() -> None:
    judge = Scripted("hard", {(i, j): 1.0 for i in range(8) for j in range(8)})
    await play(judge, size=8, orders="both_if_close")
    assert 5 < sum(first < second for first, second in judge.asked) < 23  # of 28


async def test_a_bracket_waits_for_the_second_order() -> None:
    """0 leans to win at first sight, and loses by both orders: its opponent goes on."""
    values: dict[tuple[int, int], float | None] = {
        (i, j): 0.55 if i < j else 0.95 for i in range(4) for j in range(4) if i != j
    }
    judge = Scripted("probability", values)
    score = await play(
        judge,
        size=4,
        orders="both_if_close",
        topology=SingleElimination(kind="single_elimination", seeding="random"),
    )
    for match in score.matches:
        if len(match.calls) == 2:
            assert match.result("probability") == 0.0
    final = max(score.matches, key=lambda match: match.pairing.round)
    assert final.pairing.b == 3
    assert len(score.matches) == 3


async def test_rewards_go_by_the_merged_orders_and_the_log_does_not() -> None:
    """The first seat wins every call by 0.9 or 0.6: by the sum the lower index wins, by agreement nobody does."""
    values: dict[tuple[int, int], float | None] = {(0, 1): 0.9, (1, 0): 0.6}
    by_sum = await play(Scripted("probability", values))
    by_agreement = await play(Scripted("probability", values), merge="agree_else_tie")
    assert by_sum.rewards[0] is not None
    assert by_sum.rewards[0] > 0.5
    assert by_agreement.rewards == pytest.approx([0.5, 0.5])
    for score in (by_sum, by_agreement):
        assert [call.verdict.value for call in score.matches[0].calls] == [0.9, 0.6]


def test_bounds_hold_for_library_users_too() -> None:
    asked: list[tuple[int, int]] = []

    def compare(i: int, j: int) -> float:
        asked.append((i, j))
        return 1.0 if i < j else 0.0

    score = rank_group(4, compare, orders="both_if_close")
    assert len(asked) == 6
    asked.clear()
    rank_group(4, lambda i, j: compare(i, j) * 0.2 + 0.4, orders="both_if_close", close_margin=0.05)
    assert len(asked) == 6
    rank_group(4, lambda i, j: compare(i, j) * 0.2 + 0.4, orders="both_if_close", merge="agree_else_tie")
    assert len(asked) == 6 + 12
    assert score.rewards == sorted(score.rewards, reverse=True)  # pyright: ignore[reportArgumentType]


SCORES = EmbeddingJudge(kind="embedding", model="m")
LOGITS = VerdictTokensJudge(kind="verdict_tokens", model="m")
HARD = PythonJudge(kind="python", target="a:b", verdict="hard")
PROBABILITY = PythonJudge(kind="python", target="a:b")


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"judge": LOGITS, "orders": "both_if_close"}, "state what is close"),
        ({"judge": HARD, "orders": "both_if_close", "close_margin": 0.1}, "leave it out"),
        ({"judge": PROBABILITY, "close_margin": 0.1}, "leave it out"),
        ({"judge": PROBABILITY, "orders": "both_if_close", "close_margin": 0.6}, "at most 0.5"),
        ({"judge": SCORES, "merge": "agree_else_tie", "topology": KWise(kind="k_wise")}, "k_wise"),
        ({"judge": HARD, "orders": "both_if_close", "topology": KWise(kind="k_wise")}, "k_wise"),
        ({"judge": HARD, "orders": "first", "topology": KWise(kind="k_wise")}, "lower slots first"),
    ],
)
def test_orders_that_do_not_fit_are_refused(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        TournamentRewards(**keys)


def test_slates_may_be_ascending_for_a_judge_that_cannot_lean() -> None:
    symmetric = PythonJudge(kind="python", target="a:b", verdict="hard", symmetric=True)
    TournamentRewards(judge=symmetric, orders="first", topology=KWise(kind="k_wise"))
