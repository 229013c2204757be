"""The arena over slates: what is shown, limits, failures, gates, what ends up in the log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from rewards.arena import Arena
from rewards.config import CallLimits
from rewards.errors import JudgeFailure, UserError
from rewards.seating import merged_tiers, slate_orders
from rewards.topology_config import KWise
from rewards.types import Call, Candidate, ListJudge, Places, Prompt, Ranking, Slate
from tests.rewards.test_arena import KEY, PROMPT, FailsGate, FakeJudge, add_all, config, score_one


class FakeListJudge:
    """The lower index is better; `failing` holds what the first calls about a first slot raise."""

    name = "lists"

    def __init__(self, *, symmetric: bool = False, failing: dict[int, list[Exception]] | None = None) -> None:
        self.symmetric = symmetric
        self.asked: list[tuple[int, ...]] = []
        self.at_work = self.most_at_work = 0
        self._failing = failing or {}

    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        shown = tuple(int(candidate.id) for candidate in candidates)
        self.asked.append(shown)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await asyncio.sleep(0)
        self.at_work -= 1
        if self._failing.get(shown[0]):
            raise self._failing[shown[0]].pop()
        return Places(tuple(sorted(shown).index(slot) for slot in shown), tokens_in=len(shown))

    async def close(self) -> None:
        pass


class TiesJudge(FakeListJudge):
    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        return Places((0,) * len(candidates))


def k_wise(k: int = 4, rounds: int | None = None, **fields: Any) -> Any:
    return config(topology=KWise(kind="k_wise", k=k, rounds=rounds), **fields)


@pytest.fixture(autouse=True)
async def nothing_left_behind():
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_all_in_one_slate_in_both_orders() -> None:
    judge = FakeListJudge()
    score = await score_one(Arena(k_wise(), judge), 4)
    assert judge.asked == [(0, 1, 2, 3), (3, 2, 1, 0)]
    assert [ranking.shown for ranking in score.rankings] == judge.asked
    assert [ranking.places for ranking in score.rankings] == [(0, 1, 2, 3), (3, 2, 1, 0)]
    assert [ranking.tokens_in for ranking in score.rankings] == [4, 4]
    assert (score.matches, score.kind, score.num_calls, score.num_failed) == ((), "hard", 2, 0)
    rewards = [reward for reward in score.rewards if reward is not None]
    assert len(rewards) == 4
    assert rewards == sorted(rewards, reverse=True)
    assert sum(rewards) == pytest.approx(2.0), "posterior win probabilities"


@pytest.mark.parametrize(
    ("orders", "symmetric", "calls"), [("both", False, 16), ("both", True, 8), ("random", False, 8)]
)
async def test_calls_are_as_announced(orders: str, symmetric: bool, calls: int) -> None:
    judge = FakeListJudge(symmetric=symmetric)
    score = await score_one(Arena(k_wise(orders=orders), judge), 8)
    assert len(judge.asked) == score.num_calls == calls
    if symmetric:
        assert all(shown == tuple(sorted(shown)) for shown in judge.asked)
    assert {slot for shown in judge.asked for slot in shown} == set(range(8))


async def test_random_order_is_a_seeded_shuffle() -> None:
    async def asked(seed: int) -> list[tuple[int, ...]]:
        judge = FakeListJudge()
        await score_one(Arena(k_wise(16, orders="random"), judge, seed=seed), 12)
        return judge.asked

    (shown,) = await asked(1)
    assert await asked(1) == [shown]
    assert sorted(shown) == list(range(12)) != list(shown)
    assert await asked(2) != [shown]


async def test_the_first_ranking_precedes_the_last_arrival() -> None:
    calls: list[Call | Ranking] = []
    arena = Arena(k_wise(2), FakeListJudge(), on_call=lambda key, call: calls.append(call))
    await arena.open(KEY, PROMPT, 8)
    for index in range(7):
        await arena.add(KEY, index, Candidate(str(index), ""))
    while not calls:
        await asyncio.sleep(0)
    await arena.add(KEY, 7, Candidate("7", ""))
    assert (await arena.scores())[KEY].num_scored == 8
    assert all(isinstance(call, Ranking) for call in calls)


async def test_a_failed_order_of_two_leaves_one_and_a_failed_slate_is_a_gap() -> None:
    def down(times: int) -> list[Exception]:
        return [JudgeFailure("server_error", "code 500") for _ in range(times)]

    limits = CallLimits(max_attempts=2, backoff_s=0.0)
    judge = FakeListJudge(failing={0: down(1), 3: down(2)})
    score = await score_one(Arena(k_wise(calls=limits), judge), 4)
    ascending, reversed_ = score.rankings
    assert (ascending.attempts, ascending.failure) == (2, None)
    assert (reversed_.attempts, reversed_.failure, reversed_.reason, reversed_.places) == (
        *(2, "server_error", "code 500"),
        None,
    )
    assert (score.num_calls, score.num_failed, score.failures) == (2, 1, {"server_error": 1})
    assert score.num_scored == 4

    judge = FakeListJudge(failing={0: down(9), 3: down(9)})
    score = await score_one(Arena(k_wise(calls=limits), judge), 4)
    assert len(judge.asked) == 4
    assert score.rewards == [None] * 4
    assert score.failures == {"server_error": 2}


async def test_a_deadline_is_a_failed_ranking() -> None:
    class Slow(FakeListJudge):
        async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
            if candidates[0].id == "0":
                await asyncio.sleep(3600)
            return await super().rank(prompt, candidates)

    limits = CallLimits(timeout_s=0.01, max_attempts=1)
    score = await score_one(Arena(k_wise(calls=limits), Slow()), 3)
    assert score.failures == {"timeout": 1}
    assert score.num_scored == 3


@pytest.mark.parametrize("bug", [RuntimeError("broken"), TimeoutError("the judge's own")])
async def test_other_exceptions_surface(bug: Exception) -> None:
    with pytest.raises(type(bug)) as caught:
        await score_one(Arena(k_wise(2), FakeListJudge(failing={0: [bug]})), 6)
    assert caught.value is bug


async def test_places_must_be_as_many_as_candidates() -> None:
    class Short(FakeListJudge):
        async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
            return Places((0, 1))

    with pytest.raises(UserError, match="judge lists: a place per candidate, 3, got"):
        await score_one(Arena(k_wise(), Short()), 3)


@pytest.mark.parametrize("places", [(1, 2), (0, 0, 1), (0, 2), (-1, 0)])
def test_places_count_who_is_better(places: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="number of candidates that are better"):
        Places(places)
    assert Places((1, 0, 3, 1)).places == (1, 0, 3, 1)


async def test_ties_everywhere_make_everybody_level() -> None:
    score = await score_one(Arena(k_wise(), TiesJudge()), 6)
    assert score.rewards == pytest.approx([0.5] * 6)


async def test_who_fails_a_gate_is_never_shown() -> None:
    judge = FakeListJudge()
    score = await score_one(Arena(k_wise(), judge, [FailsGate("length", {1, 3})]), 6)
    assert {slot for shown in judge.asked for slot in shown} == {0, 2, 4, 5}
    assert score.rewards[1] == score.rewards[3] == 0.0


@pytest.mark.parametrize("slots", [[], [2]])
async def test_nobody_to_be_ranked_with(slots: list[int]) -> None:
    score = await score_one(Arena(k_wise(), FakeListJudge()), 3, slots=slots)
    assert score.rewards == [None] * 3
    assert score.num_calls == 0


async def test_calls_at_work_are_bounded_and_cancelling_leaves_nothing() -> None:
    judge = FakeListJudge()
    await score_one(Arena(k_wise(2, calls=CallLimits(max_concurrency=3)), judge), 16)
    assert judge.most_at_work == 3

    class Stuck(FakeListJudge):
        async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
            await asyncio.sleep(3600)
            raise AssertionError

    arena = Arena(k_wise(), Stuck())
    await add_all(arena, 8)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(arena.scores(), 0.01)


async def test_the_log_does_not_depend_on_who_answers_first() -> None:
    class Uneven(FakeListJudge):
        async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
            for _ in range(7 * int(candidates[0].id) % 5):
                await asyncio.sleep(0)
            return await super().rank(prompt, candidates)

    even, uneven = [await score_one(Arena(k_wise(3), judge), 9) for judge in (FakeListJudge(), Uneven())]
    assert even.rewards == uneven.rewards
    assert [r.shown for r in even.rankings] == [r.shown for r in uneven.rankings]
    assert Counter(len(r.shown) for r in even.rankings) == {3: 30}


def test_judge_and_topology_must_fit() -> None:
    assert isinstance(FakeListJudge(), ListJudge)
    assert not isinstance(FakeJudge(), ListJudge)
    with pytest.raises(UserError, match=r"rewards\.topology k_wise .* judge fake only compares two"):
        Arena(k_wise(), FakeJudge())
    with pytest.raises(UserError, match=r"rewards\.topology round_robin plays pairs, and judge lists only ranks"):
        Arena(config(), FakeListJudge())


# --- orders --------------------------------------------------------------------------------------------------------


def test_orders_of_a_slate() -> None:
    slate = Slate((1, 4, 6))
    assert slate_orders(slate, "first", False, 0) == [(1, 4, 6)]
    assert slate_orders(slate, "both", False, 0) == [(1, 4, 6), (6, 4, 1)]
    assert slate_orders(slate, "both", True, 0) == slate_orders(slate, "random", True, 0) == [(1, 4, 6)]
    seen = {tuple(slate_orders(slate, "random", False, seed)) for seed in range(60)}
    assert len(seen) == 6


def ranking(shown: tuple[int, ...], places: tuple[int, ...] | None) -> Ranking:
    return Ranking(Slate(tuple(sorted(shown))), shown, places, "test", None if places else "timeout")


def test_orders_merge_by_their_sum_of_places() -> None:
    one = ranking((0, 1, 2, 3), (0, 1, 1, 3))  # 0 > 1 = 2 > 3
    assert merged_tiers([one]) == ((0,), (1, 2), (3,))
    # 3 2 1 0 from the best: 0: 0 + 3; 1: 1.5 + 2; 2: 1.5 + 1; 3: 3 + 0.
    assert merged_tiers([one, ranking((3, 2, 1, 0), (0, 1, 2, 3))]) == ((2,), (0, 3), (1,))
    assert merged_tiers([one, ranking((3, 2, 1, 0), None)]) == ((0,), (1, 2), (3,))
    assert merged_tiers([ranking((0, 1), None)]) == ()
