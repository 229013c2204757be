"""The doorway for library users."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rewards import rank_group, rank_groups
from rewards.errors import JudgeFailure, UserError


def closer_to_zero(i: int, j: int) -> float:
    return {True: 0.9, False: 0.1}[i < j]


async def closer_to_zero_async(i: int, j: int) -> float:
    return closer_to_zero(i, j)


def rewards_of(*args: Any, **options: Any) -> list[float]:
    rewards = [reward for reward in rank_group(*args, **options).rewards if reward is not None]
    assert len(rewards) == args[0]
    return rewards


@pytest.mark.parametrize("compare", [closer_to_zero, closer_to_zero_async])
@pytest.mark.parametrize("topology", ["round_robin", "single_elimination"])
@pytest.mark.parametrize("aggregator", ["empirical_bayes", "win_rate", "rank_quantile"])
def test_the_better_candidate_gets_more(compare: Any, topology: str, aggregator: str) -> None:
    rewards = rewards_of(6, compare, topology=topology, aggregator=aggregator)
    assert rewards[0] == max(rewards)
    if topology == "round_robin":
        assert rewards == sorted(rewards, reverse=True)


async def test_a_sync_call_works_inside_a_running_loop() -> None:
    assert rewards_of(3, closer_to_zero_async) == rewards_of(3, closer_to_zero)


def test_the_match_log_is_kept() -> None:
    score = rank_group(4, closer_to_zero)
    assert (len(score.matches), score.num_calls, score.kind) == (6, 12, "probability")
    assert score.matches[0].calls[1].verdict.value == 0.1


def test_orders_and_symmetric() -> None:
    assert rank_group(4, closer_to_zero, orders="first").num_calls == 6
    assert rank_group(4, closer_to_zero, orders="random").num_calls == 6
    assert rank_group(4, lambda i, j: 0.5, symmetric=True).num_calls == 6


def test_calibrated_probabilities_come_back() -> None:
    assert rewards_of(2, lambda i, j: 0.8 if i < j else 0.2)[0] == pytest.approx(0.8, abs=0.03)


def test_hard_verdicts_and_scores() -> None:
    assert rewards_of(3, lambda i, j: float(i < j), verdict="hard")[0] > 0.7
    assert rewards_of(3, lambda i, j: 50.0 * (j - i), verdict="score") == pytest.approx(
        [1.2247, 0.0, -1.2247], abs=1e-4
    )


def test_none_is_a_missing_match() -> None:
    score = rank_group(3, lambda i, j: None if 2 in (i, j) else 1.0 - i)
    assert score.rewards[2] is None
    assert (score.num_calls, score.num_failed, score.failures) == (6, 4, {"empty": 4})


def test_judge_failures_are_asked_again() -> None:
    seen: list[tuple[int, int]] = []

    def compare(i: int, j: int) -> float:
        seen.append((i, j))
        if len(seen) == 1:
            raise JudgeFailure("rate_limit")
        return 1.0 - i

    assert rank_group(2, compare, backoff_s=0.0).num_failed == 0
    assert len(seen) == 3


def test_bugs_keep_their_type() -> None:
    def compare(i: int, j: int) -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rank_group(3, compare)


def test_groups_share_what_the_batch_teaches() -> None:
    flips = {(g, i, j): float((g * 7 + i * 3 + j * 5) % 2) for g in range(20) for i in range(4) for j in range(4)}

    def compare(g: int, i: int, j: int) -> float:
        return float(i < j) if g == 0 else flips[g, i, j]

    together = rank_groups([4] * 20, compare)
    assert len(together) == 20
    alone = rank_group(4, lambda i, j: compare(0, i, j))
    assert together[0].rewards[0] is not None
    assert alone.rewards[0] is not None
    assert together[0].rewards[0] < alone.rewards[0], "most groups look equal, so the prior is sceptical"


def test_groups_of_several_sizes_come_back_in_order() -> None:
    scores = rank_groups([2, 5, 3, *[2] * 9], lambda g, i, j: closer_to_zero(i, j))
    assert [len(score.rewards) for score in scores] == [2, 5, 3, *[2] * 9]
    assert rank_groups([], lambda g, i, j: 0.5) == []


def test_seeds() -> None:
    def compare(i: int, j: int) -> float:
        return 0.5

    matches = [
        rank_group(8, compare, topology="single_elimination", seeding="random", seed=s).matches for s in (1, 1, 2)
    ]
    pairings = [[match.pairing for match in played] for played in matches]
    assert pairings[0] == pairings[1] != pairings[2]


def test_options_reach_their_section() -> None:
    assert rank_group(4, closer_to_zero, topology="single_elimination", seeding="random").num_calls == 6
    narrow = rewards_of(4, closer_to_zero, scales=[0.05])
    assert narrow[0] < rewards_of(4, closer_to_zero)[0]
    assert rank_group(3, closer_to_zero, min_verdicts=5).rewards == [None] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topology": "round_robbin"}, "'round_robbin'; did you mean 'round_robin'"),
        ({"aggregator": "xyz"}, "unknown aggregator: 'xyz'; choose from"),
        ({"orders": "bth"}, "did you mean 'both'"),
        ({"verdict": "logit"}, "unknown verdict"),
        ({"seeding": "random"}, "unknown option of rank_group with round_robin and empirical_bayes: 'seeding'"),
        ({"scale": (1.0,)}, "did you mean 'scales'"),
        ({"aggregator": "win_rate", "scales": (1.0,)}, "'scales'"),
        (
            {"topology": "single_elimination", "seeding": "best"},
            "seeding: Input should be 'random', 'anchor' or 'prior'",
        ),
        ({"scales": [1.0, -1.0]}, r"scales\.1: .* greater than 0"),
        ({"min_verdicts": 0}, "min_verdicts"),
        ({"symmetric": "yes"}, "symmetric"),
        ({"prior": {"scales": [1.0]}}, "prior was learned on"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        rank_group(3, closer_to_zero, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1.01, -0.1, float("nan"), "0.5x", [1]])
def test_bad_values(value: Any) -> None:
    with pytest.raises(UserError, match="compare"):
        rank_group(3, lambda i, j: value)


@pytest.mark.parametrize("size", [1, 0, -3, 2.0, True])
def test_too_few_candidates(size: Any) -> None:
    with pytest.raises(UserError, match="at least 2 candidates"):
        rank_group(size, closer_to_zero)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, rewards, rewards.config, rewards.types\n"
        "print(sorted(set(sys.modules) & {'numpy', 'scipy'}))\n"
        "rewards.rank_group(3, lambda i, j: 0.5)\n"
        "heavy = {'torch', 'ray', 'vllm', 'deepspeed', 'transformers', 'pyarrow', 'scipy', 'datasets', 'pandas'}\n"
        "print(sorted(set(sys.modules) & heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
