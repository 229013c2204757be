"""The doorway for functions that rank several candidates in one call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rewards import rank_group, rank_group_k
from rewards.errors import JudgeFailure, UserError


def lower_first(slots: tuple[int, ...]) -> list[int]:
    return [sorted(slots).index(slot) for slot in slots]


@pytest.mark.parametrize("aggregator", ["empirical_bayes", "win_rate"])
def test_a_consistent_function_gives_its_order(aggregator: str) -> None:
    asked: list[tuple[int, ...]] = []

    def rank(slots: tuple[int, ...]) -> list[int]:
        asked.append(slots)
        return lower_first(slots)

    score = rank_group_k(8, rank, aggregator=aggregator)
    assert len(asked) == score.num_calls == len(score.rankings) == 16
    assert all(2 <= len(slots) <= 4 for slots in asked)
    assert {slots[::-1] for slots in asked} == set(asked), "every slate is shown in both orders"
    assert (score.matches, score.kind) == ((), "hard")
    rewards = [reward for reward in score.rewards if reward is not None]
    assert rewards[0] == max(rewards)
    assert rewards[7] == min(rewards)
    assert len(rewards) == 8


def test_options_reach_topology_calls_and_orders() -> None:
    assert rank_group_k(9, lower_first, k=3, rounds=2, orders="random").num_calls == 6
    assert rank_group_k(9, lower_first, k=16, symmetric=True).num_calls == 1
    score = rank_group_k(4, lambda slots: None, max_attempts=1)
    assert (score.rewards, score.failures) == ([None] * 4, {"empty": 2})


def test_async_functions_and_failures_that_are_asked_again() -> None:
    tries = 0

    async def rank(slots: tuple[int, ...]) -> list[int]:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise JudgeFailure("rate_limit")
        return lower_first(slots)

    score = rank_group_k(4, rank, orders="random", backoff_s=0.0)
    assert (tries, score.num_calls, score.num_failed) == (2, 1, 0)


def test_equal_seeds_ask_the_same() -> None:
    def shown(seed: int) -> list[tuple[int, ...]]:
        return [ranking.shown for ranking in rank_group_k(12, lower_first, orders="random", seed=seed).rankings]

    assert shown(1) == shown(1) != shown(2)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"num_candidates": 1}, "at least 2 candidates"),
        ({"k": 1}, "k: Input should be greater than or equal to 2"),
        ({"k": 17}, "k: Input should be less than or equal to 16"),
        ({"rounds": 0}, "rounds: "),
        ({"aggregator": "win_rat"}, "win_rate"),
        ({"seeding": "prior"}, "seeding"),
        ({"rank": lambda slots: [0, 1]}, r"rank\(\(0, 1, 2, 3\)\) returned \[0, 1\]; a ranking of 4 is 4 places"),
        ({"rank": lambda slots: [1, 2, 3, 4]}, "a ranking of 4 is 4 places"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        rank_group_k(**{"num_candidates": 4, "rank": lower_first, **arguments})


def test_pairs_have_their_own_doorway() -> None:
    with pytest.raises(UserError, match="use rank_group_k"):
        rank_group(4, lambda i, j: 0.5, topology="k_wise")
