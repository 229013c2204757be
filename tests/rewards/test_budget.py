"""Budgets of judge calls: nobody goes over, everybody gets a share, what is left over is handed on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewards import rank_group, rank_group_k, rank_groups
from rewards.arena import Arena
from rewards.budget import Purse, Spend, hand_on, least_played_first
from rewards.cache import JudgeCache, JudgeIdentity, JudgeMemory
from rewards.calling import Line
from rewards.config import CallBudget, CallLimits
from rewards.errors import JudgeFailure, RunStopped, UserError
from rewards.topology_config import Adaptive, Swiss
from rewards.types import GroupKey, GroupScore, Pairing, Verdict
from tests.rewards.test_arena import FakeJudge, add_all, config


def lower_wins(i: int, j: int) -> float:
    return 0.9 if i < j else 0.1


def meetings(score: GroupScore) -> Counter[int]:
    return Counter(slot for match in score.matches for slot in (match.pairing.a, match.pairing.b))


@pytest.mark.parametrize(("calls", "orders", "matches"), [(8, "both", 4), (9, "both", 4), (8, "random", 8)])
def test_a_group_stops_at_its_budget_and_everybody_has_played_about_as_much(
    calls: int, orders: str, matches: int
) -> None:
    score = rank_group(8, lower_wins, calls_per_group=calls, orders=orders)  # pyright: ignore[reportArgumentType]
    assert len(score.matches) == matches
    assert score.num_calls <= calls
    assert set(meetings(score).values()) == {matches // 4}
    assert all(reward is not None for reward in score.rewards)


def test_fewer_calls_than_it_takes_to_hear_of_everybody_leave_the_rest_unscored() -> None:
    score = rank_group(8, lower_wins, calls_per_group=3, orders="random")
    assert sum(reward is None for reward in score.rewards) == 2
    assert max(meetings(score).values()) == 1


def test_a_steps_budget_is_shared_and_what_small_groups_leave_is_handed_on() -> None:
    # Shares of 20: the pair needs 1 match, the triple 3; the 8 and the 7 get the 36 that are left.
    scores = rank_groups([2, 8, 3, 7], lambda g, i, j: lower_wins(i, j), calls_per_step=40, orders="random")
    played = [len(score.matches) for score in scores]
    assert sum(played) == 40
    assert played[0] == 1
    assert played[2] == 3
    assert abs(played[1] - played[3]) <= 2
    assert max(meetings(scores[1]).values()) - min(meetings(scores[1]).values()) <= 1


def test_a_budget_that_is_not_needed_changes_nothing() -> None:
    free = rank_groups([5, 4], lambda g, i, j: lower_wins(i, j), seed=3)
    bound = rank_groups([5, 4], lambda g, i, j: lower_wins(i, j), seed=3, calls_per_step=1000, calls_per_group=20)
    assert [score.rewards for score in bound] == [score.rewards for score in free]


def test_both_budgets_hold_at_once() -> None:
    scores = rank_groups(
        [8, 8], lambda g, i, j: lower_wins(i, j), calls_per_step=100, calls_per_group=10, orders="random"
    )
    assert [score.num_calls for score in scores] == [10, 10]


def test_a_bracket_is_cut_between_rounds_and_the_aggregator_works_with_what_is_there() -> None:
    score = rank_group(
        8, lower_wins, topology="single_elimination", seeding="random", calls_per_group=5, orders="first"
    )
    assert len(score.matches) == 5
    assert all(reward is not None for reward in score.rewards)


def test_adaptive_spends_the_steps_budget_and_no_more() -> None:
    options = {"topology": "adaptive", "orders": "random", "calls_per_group": 12}
    scores = rank_groups([8] * 4, lambda g, i, j: lower_wins(i, j), calls_per_step=30, **options)
    assert sum(score.num_calls for score in scores) == 30


def test_adaptive_has_a_budget_of_its_own_per_group() -> None:
    with pytest.raises(ValidationError, match=r"set topology\.calls_per_group instead"):
        config(topology=Adaptive(kind="adaptive"), budget=CallBudget(calls_per_group=3))


def test_a_bad_budget_is_refused() -> None:
    with pytest.raises(UserError, match="calls_per_group"):
        rank_group(4, lower_wins, calls_per_group=0)


class TestRun:
    """One arena over many steps."""

    def arena(self, budget: CallBudget, spent: int = 0, **fields: object) -> Arena:
        rewards = config(budget=budget, orders="first", **fields)
        return Arena(rewards, FakeJudge(), groups_per_step=2, spent=Spend(calls=spent))

    async def step(self, arena: Arena, number: int) -> int:
        for group in range(2):
            await add_all(arena, 4, GroupKey(f"{number}.{group}"))
        return sum(score.num_calls for score in (await arena.scores()).values())

    def test_the_last_step_gets_what_is_left_and_the_next_stops_the_run(self) -> None:
        async def play() -> list[int]:
            arena = self.arena(CallBudget(calls_per_run=20))
            return [await self.step(arena, 0), await self.step(arena, 1)] + ([-1] if await self.refused(arena) else [])

        assert asyncio.run(play()) == [12, 8, -1]

    async def refused(self, arena: Arena) -> bool:
        with pytest.raises(RunStopped, match=r"calls_per_run: all 20 judge calls are spent; raise it"):
            await self.step(arena, 2)
        return True

    @pytest.mark.parametrize(
        ("budget", "played"),
        [
            (CallBudget(calls_per_step=15), [12, 3, -1]),  # of 15 the refill gets what the first groups left
            (CallBudget(calls_per_step=12), [12, -1]),
            (CallBudget(calls_per_run=17), [12, 5, -1]),
            (CallBudget(calls_per_step=100), [12, 6, 6]),
            (CallBudget(calls_per_group=4), [8, 4, 4]),
        ],
    )
    def test_a_refill_shares_the_budget_of_its_step(self, budget: CallBudget, played: list[int]) -> None:
        async def play() -> list[int]:
            arena = self.arena(budget)
            calls = [await self.step(arena, 0)]
            for refill in (1, 2):
                if not arena.refill(1):
                    return [*calls, -1]
                await add_all(arena, 4, GroupKey(f"refill{refill}"))
                calls.append(sum(score.num_calls for score in (await arena.scores()).values()))
            return calls

        assert asyncio.run(play()) == played

    def test_no_refill_for_less_than_a_match(self) -> None:
        async def play() -> tuple[int, bool]:
            rewards = config(budget=CallBudget(calls_per_step=25), orders="both")
            arena = Arena(rewards, FakeJudge(), groups_per_step=2)
            return await self.step(arena, 0), arena.refill(1)

        assert asyncio.run(play()) == (24, False)

    def test_a_refill_takes_nothing_from_the_next_step(self) -> None:
        async def play() -> tuple[bool, int]:
            arena = self.arena(CallBudget(calls_per_step=12))
            await self.step(arena, 0)
            return arena.refill(1), await self.step(arena, 1)

        assert asyncio.run(play()) == (False, 12)

    def test_a_resumed_run_remembers(self) -> None:
        arena = self.arena(CallBudget(calls_per_run=20), spent=15)
        assert asyncio.run(self.step(arena, 0)) == 5

    def test_evaluation_is_not_counted(self) -> None:
        async def play() -> int:
            arena = Arena(config(budget=CallBudget(calls_per_step=1, calls_per_run=1), orders="first"), FakeJudge())
            return await self.step(arena, 0) + await self.step(arena, 1)

        assert asyncio.run(play()) == 24

    def test_swiss_is_cut_too_and_groups_stay_level(self) -> None:
        async def play() -> list[int]:
            arena = self.arena(CallBudget(calls_per_step=6), topology=Swiss(kind="swiss"))
            for group in range(2):
                await add_all(arena, 4, GroupKey(str(group)))
            return [score.num_calls for score in (await arena.scores()).values()]

        assert asyncio.run(play()) == [3, 3]


class TestTokensAndMoney:
    """What is known only after a call: 10 tokens in, 2 out and half a unit of money each."""

    def arena(self, spent: Spend = Spend(), concurrency: int = 2, **budget: float) -> Arena:
        async def compare(first: int, second: int) -> Verdict:
            await asyncio.sleep(0)
            return Verdict(float(first < second), tokens_in=10, tokens_out=2, cost=0.5)

        calls = CallLimits(backoff_s=0.0, max_concurrency=concurrency)
        rewards = config(budget=CallBudget(**budget), calls=calls)  # type: ignore[arg-type]
        return Arena(rewards, FakeJudge(compare), groups_per_step=2, spent=spent)

    async def step(self, arena: Arena, number: int) -> list[GroupScore]:
        for group in range(2):
            await add_all(arena, 4, GroupKey(f"{number}.{group}"))
        return list((await arena.scores()).values())

    @pytest.mark.parametrize("budget", [{"tokens_per_step": 120}, {"cost_per_step": 5.0}])
    def test_a_step_stops_asking_and_works_with_what_is_there(self, budget: dict[str, float]) -> None:
        async def play() -> list[list[GroupScore]]:
            arena = self.arena(**budget)  # pyright: ignore[reportArgumentType]
            return [await self.step(arena, number) for number in range(3)]

        for number, scores in enumerate(asyncio.run(play())):
            num_calls = sum(score.num_calls for score in scores)
            assert 10 <= num_calls <= 11 if number == 0 else 8 <= num_calls <= 10  # later steps share calls out
            assert sum(score.num_failed for score in scores) == 0, "what was not asked is no failure"
            assert all(match.calls for score in scores for match in score.matches)
            assert number == 0 or all(score.num_scored == 4 for score in scores), "everybody is heard of"

    @pytest.mark.parametrize(
        ("budget", "key"),
        [({"tokens_per_run": 300}, "tokens_per_run: 288 of 300"), ({"cost_per_run": 12.5}, "cost_per_run: 12 of 12.5")],
    )
    def test_the_run_stops_when_its_budget_is_spent(self, budget: dict[str, float], key: str) -> None:
        async def play() -> int:
            arena = self.arena(**budget)  # pyright: ignore[reportArgumentType]
            num_calls = sum(score.num_calls for score in await self.step(arena, 0))
            with pytest.raises(RunStopped, match=f"{key} .* are spent, and a match takes more than is left; raise it"):
                await self.step(arena, 1)
            return num_calls

        assert asyncio.run(play()) == 24

    def test_a_resumed_run_remembers_what_it_paid(self) -> None:
        spent = Spend(calls=100, tokens=1200, cost=50.0)
        scores = asyncio.run(self.step(self.arena(spent, cost_per_run=54.0), 0))
        assert sum(score.num_calls for score in scores) == 8
        with pytest.raises(RunStopped, match="cost_per_run"):
            asyncio.run(self.step(self.arena(spent, cost_per_run=50.0), 0))

    def test_calls_at_work_are_reckoned_with_once_their_mean_is_known(self) -> None:
        scores = asyncio.run(self.step(self.arena(Spend(10, 120, 5.0), concurrency=64, tokens_per_step=60), 0))
        assert sum(score.num_calls for score in scores) <= 5

    def test_failed_attempts_are_paid_for(self) -> None:
        async def compare(first: int, second: int) -> Verdict:
            raise JudgeFailure("bad_reply", tokens_in=10, tokens_out=1, cost=0.25)

        async def play() -> GroupScore:
            rewards = config(calls=CallLimits(backoff_s=0.0, max_attempts=3, down_after_s=None), orders="first")
            arena = Arena(rewards, FakeJudge(compare))
            await add_all(arena, 2, GroupKey("g"))
            return (await arena.scores())[GroupKey("g")]

        (match,) = asyncio.run(play()).matches
        verdict = match.calls[0].verdict
        assert (verdict.failure, verdict.attempts) == ("bad_reply", 3)
        assert (verdict.tokens_in, verdict.tokens_out, verdict.cost) == (30, 3, 0.75)


def test_verdicts_from_the_cache_are_counted_in_the_step_and_not_in_the_run(tmp_path: Path) -> None:
    async def play() -> list[tuple[int, int]]:
        cache = JudgeCache(tmp_path / "c")
        rewards = config(budget=CallBudget(calls_per_step=4, calls_per_run=6), orders="first")
        memory = JudgeMemory(cache, JudgeIdentity("j"))
        arena = Arena(rewards, FakeJudge(), groups_per_step=1, lines={"fake": Line(memory)})
        seen = []
        for step in range(4):
            await add_all(arena, 4, GroupKey(str(step)))  # other lots, other pairs, the same six questions
            (score,) = (await arena.scores()).values()
            seen.append((score.num_calls, score.num_cached))
        await cache.close()
        return seen

    seen = asyncio.run(play())
    assert [calls for calls, _ in seen][:1] == [4]
    assert sum(calls - cached for calls, cached in seen) <= 6
    assert sum(calls for calls, _ in seen) > 6


@given(size=st.integers(2, 9), num_matches=st.integers(0, 40), seed=st.integers(0, 5), already=st.integers(0, 10))
def test_least_played_first_keeps_the_counts_level(size: int, num_matches: int, seed: int, already: int) -> None:
    pairings = [Pairing(a, b) for a, b in combinations(range(size), 2)]
    played = least_played_first(pairings, [], num_items=already, seed=seed)
    waiting = [pairing for pairing in pairings if pairing not in played]
    chosen = least_played_first(waiting, played, num_items=num_matches, seed=seed)
    assert len(chosen) == min(num_matches, len(waiting)) == len(set(chosen))
    counts = Counter(slot for pairing in (*played, *chosen) for slot in (pairing.a, pairing.b))
    assert max(counts.values(), default=0) - min((counts[slot] for slot in range(size)), default=0) <= 2


@given(st.integers(0, 20), st.integers(0, 60), st.integers(1, 2))
def test_shares_are_equal_and_never_more_than_there_is(groups: int, left: int, calls_per_match: int) -> None:
    shares = hand_on(list(range(groups)), calls_left=left, calls_per_item=calls_per_match, seed=1)
    matches = [share for share in shares.values() if share is not None]
    assert sum(matches) * calls_per_match <= left
    assert len(set(matches)) <= 1
    assert groups == 0 or left < calls_per_match or matches


def test_no_budget_is_no_bound() -> None:
    purse = Purse(CallBudget(), groups=4)
    assert purse.allowance() is None
    assert purse.left(10**9) is None
    assert hand_on([1, 2], calls_left=None, calls_per_item=2, seed=0) == {1: None, 2: None}


@pytest.mark.parametrize(("calls", "slates"), [(6, 3), (3, 1), (100, 16)])
def test_slates_are_under_the_same_budget(calls: int, slates: int) -> None:
    asked: list[tuple[int, ...]] = []

    def rank(slots: Sequence[int]) -> list[int]:
        asked.append(tuple(slots))
        return [sorted(slots).index(slot) for slot in slots]

    score = rank_group_k(16, rank, k=4, rounds=4, calls_per_group=calls)
    assert len(asked) == 2 * slates == score.num_calls
    heard = Counter(slot for ranking in score.rankings for slot in ranking.slate.members)
    assert max(heard.values()) - min(heard[slot] for slot in range(16)) <= 2, "of two orders each"
