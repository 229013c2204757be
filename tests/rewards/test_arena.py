"""The arena: streaming, limits, failures, bugs, gates, priors, and nothing left behind."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from rewards.aggregator_config import WinRate
from rewards.arena import Arena
from rewards.config import CallLimits, TournamentRewards
from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import PythonJudge
from rewards.limiter import LocalLimiter
from rewards.topology_config import Adaptive, SingleElimination, Swiss
from rewards.tournament import group_seed
from rewards.types import Call, Candidate, GroupKey, GroupScore, GroupSink, Prompt, Ranking, Verdict, VerdictKind

KEY = GroupKey("g")
PROMPT = Prompt("p", "task")
Compare = Callable[[int, int], Awaitable[float | Verdict]]


class FakeJudge:
    """Compares candidates by their ids; records who it was asked about and how many calls overlapped."""

    name = "fake"

    def __init__(self, compare: Compare | None = None, *, kind: VerdictKind = "hard", symmetric: bool = False) -> None:
        self.kind: VerdictKind = kind
        self.symmetric = symmetric
        self.asked: list[tuple[int, int]] = []
        self.at_work = self.most_at_work = 0
        self._compare = compare or lower_index_wins

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        self.asked.append((int(first.id), int(second.id)))
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            value = await self._compare(int(first.id), int(second.id))
        finally:
            self.at_work -= 1
        return value if isinstance(value, Verdict) else Verdict(value)

    async def close(self) -> None:
        pass


async def lower_index_wins(first: int, second: int) -> float:
    await asyncio.sleep(0)
    return float(first < second)


class FailsGate:
    """Fails the candidates with the given ids."""

    def __init__(self, name: str, ids: set[int]) -> None:
        self.name = name
        self._ids = ids

    def check(self, prompt: Prompt, candidate: Candidate) -> str | None:
        return "no" if int(candidate.id) in self._ids else None


def config(**fields: Any) -> TournamentRewards:
    judge = PythonJudge(kind="python", target="tests.rewards:judge")
    return TournamentRewards(judge=judge, **{"calls": CallLimits(backoff_s=0.0), **fields})


async def add_all(
    sink: GroupSink, num_candidates: int, key: GroupKey = KEY, slots: Sequence[int] | None = None
) -> None:
    await sink.open(key, PROMPT, num_candidates)
    for index in range(num_candidates) if slots is None else slots:
        await sink.add(key, index, Candidate(str(index), f"answer {index}"))
    await sink.close(key)


async def score_one(arena: Arena, num_candidates: int, slots: Sequence[int] | None = None) -> GroupScore:
    await add_all(arena, num_candidates, slots=slots)
    return (await arena.scores())[KEY]


@pytest.fixture(autouse=True)
async def nothing_left_behind():
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


class TestPlaying:
    async def test_everybody_meets_everybody_in_both_orders(self) -> None:
        judge = FakeJudge()
        score = await score_one(Arena(config(), judge), 4)
        assert sorted(judge.asked) == [(i, j) for i in range(4) for j in range(4) if i != j]
        assert [(match.pairing.a, match.pairing.b) for match in score.matches] == [
            (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3),
        ]  # fmt: skip
        assert all(
            [call.first for call in match.calls] == [match.pairing.a, match.pairing.b] for match in score.matches
        )
        assert (score.num_calls, score.num_failed, score.kind) == (12, 0, "hard")
        rewards = [reward for reward in score.rewards if reward is not None]
        assert rewards == sorted(rewards, reverse=True)
        assert score.baseline_ids == [0] * 4
        assert score.reliability is not None
        assert score.strengths is not None

    async def test_it_is_a_group_sink(self) -> None:
        assert isinstance(Arena(config(), FakeJudge()), GroupSink)

    async def test_the_first_verdict_precedes_the_last_arrival(self) -> None:
        calls: list[Call | Ranking] = []
        arena = Arena(config(), FakeJudge(), on_call=lambda key, call: calls.append(call))
        await arena.open(KEY, PROMPT, 3)
        await arena.add(KEY, 2, Candidate("2", ""))
        await arena.add(KEY, 0, Candidate("0", ""))
        while not calls:
            await asyncio.sleep(0)
        await arena.add(KEY, 1, Candidate("1", ""))
        assert (await arena.scores())[KEY].num_calls == 6

    async def test_a_full_group_needs_no_close(self) -> None:
        arena = Arena(config(), FakeJudge())
        await arena.open(KEY, PROMPT, 2)
        for index in (0, 1):
            await arena.add(KEY, index, Candidate(str(index), ""))
        assert (await arena.scores())[KEY].num_scored == 2

    async def test_a_group_closed_early_ranks_who_came(self) -> None:
        for topology in ({}, {"topology": SingleElimination(kind="single_elimination")}):
            score = await score_one(Arena(config(**topology), FakeJudge()), 5, slots=[4, 1, 3])
            assert [reward is not None for reward in score.rewards] == [False, True, False, True, True]

    @pytest.mark.parametrize("slots", [[], [2]])
    async def test_nobody_to_play_with(self, slots: list[int]) -> None:
        score = await score_one(Arena(config(), FakeJudge()), 3, slots=slots)
        assert score.rewards == [None] * 3
        assert score.num_calls == 0

    async def test_symmetric_judges_are_asked_once(self) -> None:
        judge = FakeJudge(symmetric=True)
        await score_one(Arena(config(), judge), 4)
        assert len(judge.asked) == 6

    async def test_orders_first_shows_the_lower_index_first(self) -> None:
        judge = FakeJudge()
        await score_one(Arena(config(orders="first"), judge), 4)
        assert all(first < second for first, second in judge.asked)
        assert len(judge.asked) == 6

    async def test_orders_random_is_a_seeded_coin(self) -> None:
        async def asked(seed: int) -> list[tuple[int, int]]:
            judge = FakeJudge()
            await score_one(Arena(config(orders="random"), judge, seed=seed), 8)
            return sorted(judge.asked)

        assert await asked(1) == await asked(1)
        assert await asked(1) != await asked(2)
        assert 5 < sum(first < second for first, second in await asked(1)) < 23

    async def test_elimination_costs_what_it_says(self) -> None:
        topology = SingleElimination(kind="single_elimination", seeding="anchor")
        score = await score_one(Arena(config(topology=topology, orders="first"), FakeJudge()), 8)
        assert score.num_calls == 14
        assert score.rewards[0] == max(reward for reward in score.rewards if reward is not None)

    async def test_many_groups_share_one_batch(self) -> None:
        arena = Arena(config(), FakeJudge())
        keys = [GroupKey("a", attempt) for attempt in range(3)]
        await asyncio.gather(*(add_all(arena, 3, key) for key in keys))
        scores = await arena.scores()
        assert list(scores) == keys
        assert await arena.scores() == {}

    async def test_rewards_do_not_depend_on_who_answers_first(self) -> None:
        def judge(reverse: bool) -> FakeJudge:
            async def compare(first: int, second: int) -> float:
                for _ in range(abs(first - second) if reverse else first + second):
                    await asyncio.sleep(0)
                return float((first * 7 + second * 3) % 5 < 2)

            return FakeJudge(compare)

        topology = SingleElimination(kind="single_elimination")
        for fields in ({}, {"topology": topology}):
            first, second = [await score_one(Arena(config(**fields), judge(flag)), 7) for flag in (False, True)]
            assert first.rewards == second.rewards
            assert [match.pairing for match in first.matches] == [match.pairing for match in second.matches]


class TestRefusals:
    async def test_double_open(self) -> None:
        arena = Arena(config(), FakeJudge())
        await arena.open(KEY, PROMPT, 2)
        with pytest.raises(ValueError, match="already open"):
            await arena.open(KEY, PROMPT, 2)
        await arena.stop()

    async def test_double_add_add_after_close_and_bad_slots(self) -> None:
        arena = Arena(config(), FakeJudge(), gates=[FailsGate("g", {2})])
        await arena.open(KEY, PROMPT, 3)
        for index in (0, 2):
            await arena.add(KEY, index, Candidate(str(index), ""))
            with pytest.raises(ValueError, match="arrived twice"):
                await arena.add(KEY, index, Candidate(str(index), ""))
        with pytest.raises(ValueError, match="slot 3"):
            await arena.add(KEY, 3, Candidate("3", ""))
        await arena.close(KEY)
        with pytest.raises(ValueError, match="after the group was closed"):
            await arena.add(KEY, 1, Candidate("1", ""))
        with pytest.raises(ValueError, match="not open"):
            await arena.add(GroupKey("other"), 0, Candidate("0", ""))
        await arena.scores()


class TestFailures:
    def failing(self, times: int, failure: Callable[[], JudgeFailure]) -> FakeJudge:
        left = {}

        async def compare(first: int, second: int) -> float:
            seen = left.setdefault((first, second), times)
            left[first, second] -= 1
            if seen > 0:
                raise failure()
            return 1.0

        return FakeJudge(compare)

    async def test_a_failure_is_retried(self) -> None:
        judge = self.failing(2, lambda: JudgeFailure("rate_limit"))
        score = await score_one(Arena(config(orders="first"), judge), 2)
        (call,) = score.matches[0].calls
        assert (call.verdict.value, call.verdict.attempts) == (1.0, 3)
        assert score.num_failed == 0

    async def test_attempts_are_bounded_and_the_verdict_is_missing(self) -> None:
        judge = self.failing(99, lambda: JudgeFailure("server_error", "code 500"))
        limits = CallLimits(max_attempts=3, backoff_s=0.0)
        score = await score_one(Arena(config(calls=limits), judge), 2)
        assert len(judge.asked) == 6
        assert score.rewards == [None, None]
        assert (score.num_calls, score.num_failed, score.failures) == (2, 2, {"server_error": 2})
        verdict = score.matches[0].calls[0].verdict
        assert (verdict.value, verdict.failure, verdict.reason, verdict.attempts) == (
            None,
            "server_error",
            "code 500",
            3,
        )

    async def test_what_cannot_be_cured_is_not_retried(self) -> None:
        judge = self.failing(99, lambda: JudgeFailure("bad_reply", retryable=False))
        await score_one(Arena(config(), judge), 2)
        assert len(judge.asked) == 2

    async def test_a_deadline_is_a_timeout_failure(self) -> None:
        async def compare(first: int, second: int) -> float:
            if (first, second) == (0, 1):
                await asyncio.sleep(3600)
            return 0.0

        limits = CallLimits(timeout_s=0.01, max_attempts=2, backoff_s=0.0)
        score = await score_one(Arena(config(calls=limits), FakeJudge(compare)), 3)
        assert score.failures == {"timeout": 1}
        assert score.num_scored == 3
        assert score.matches[0].values("hard") == [1.0], "one failed order of two leaves one vote"

    async def test_backoff_doubles_with_jitter_and_obeys_retry_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr("rewards.calling.asyncio.sleep", sleep)

        async def waits_of(failure: JudgeFailure) -> list[float]:
            waits.clear()

            async def compare(first: int, second: int) -> float:
                raise failure

            limits = CallLimits(max_attempts=4, backoff_s=1.0)
            await score_one(Arena(config(calls=limits, orders="first"), FakeJudge(compare)), 2)
            return list(waits)

        plain = await waits_of(JudgeFailure("connection"))
        assert len(plain) == 3
        assert all(0.5 * 2**k <= wait_s <= 1.5 * 2**k for k, wait_s in enumerate(plain))
        assert await waits_of(JudgeFailure("connection")) == plain
        assert await waits_of(JudgeFailure("rate_limit", retry_after_s=42.0)) == [42.0] * 3
        assert await waits_of(JudgeFailure("rate_limit", retry_after_s=1e6)) == [300.0] * 3

    async def test_a_failed_verdict_of_the_judge_is_kept_as_it_is(self) -> None:
        async def compare(first: int, second: int) -> Verdict:
            return Verdict(None, "empty", tokens_in=7)

        score = await score_one(Arena(config(), FakeJudge(compare)), 2)
        assert score.failures == {"empty": 2}
        assert score.matches[0].calls[0].verdict.tokens_in == 7

    async def test_min_verdicts(self) -> None:
        async def compare(first: int, second: int) -> float:
            if 2 in (first, second) and first != 0:
                raise JudgeFailure("empty", retryable=False)
            return float(first < second)

        score = await score_one(Arena(config(min_verdicts=2), FakeJudge(compare)), 3)
        assert score.rewards[2] is None
        assert score.num_scored == 2


class TestBugs:
    @pytest.mark.parametrize("bug", [RuntimeError("broken"), TimeoutError("the judge's own"), KeyError("x")])
    async def test_other_exceptions_surface_and_cancel_the_rest(self, bug: Exception) -> None:
        async def compare(first: int, second: int) -> float:
            if (first, second) == (1, 2):
                raise bug
            await asyncio.sleep(3600)
            return 1.0

        arena = Arena(config(), FakeJudge(compare))
        await add_all(arena, 4)
        await arena.open(GroupKey("still arriving"), PROMPT, 4)
        with pytest.raises(type(bug)) as caught:
            await arena.scores()
        assert caught.value is bug
        assert await arena.scores() == {}

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("hard", 0.7),
            ("probability", 1.2),
            ("probability", float("nan")),
            ("score", float("inf")),
            ("score", float("nan")),
            ("score", 1.1e100),
            ("score", -1e160),
        ],
    )
    async def test_impossible_numbers_are_refused(self, kind: VerdictKind, value: float) -> None:
        async def compare(first: int, second: int) -> float:
            return value

        with pytest.raises(UserError, match=f"judge fake: a {kind} verdict"):
            await score_one(Arena(config(), FakeJudge(compare, kind=kind)), 2)

    async def test_the_units_of_scores_do_not_matter_up_to_the_largest(self) -> None:
        async def rewards(unit: float) -> list[float | None]:
            async def compare(first: int, second: int) -> float:
                return unit * (second - first) / 3.0

            return (await score_one(Arena(config(), FakeJudge(compare, kind="score")), 4)).rewards

        assert await rewards(1e100) == pytest.approx(await rewards(1.0))
        assert (await rewards(1.0))[0] == pytest.approx(3 / math.sqrt(5))  # (3, 1, -1, -3) / 2 by their RMS

    async def test_cancelling_scores_leaves_nothing_running(self) -> None:
        async def compare(first: int, second: int) -> float:
            await asyncio.sleep(3600)
            return 1.0

        arena = Arena(config(), FakeJudge(compare))
        await add_all(arena, 4)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(arena.scores(), 0.01)
        assert len(asyncio.all_tasks()) == 1

    async def test_stop(self) -> None:
        arena = Arena(config(), FakeJudge())
        await add_all(arena, 4)
        await arena.stop()
        assert await arena.scores() == {}


class TestConcurrency:
    async def test_calls_at_work_are_bounded(self) -> None:
        judge = FakeJudge()
        limits = CallLimits(max_concurrency=3)
        await score_one(Arena(config(calls=limits), judge), 8)
        assert judge.most_at_work == 3

    async def test_a_limiter_can_be_shared(self) -> None:
        judge = FakeJudge()
        limiter = LocalLimiter(2)
        arenas = [Arena(config(), judge, limiter=limiter) for _ in range(3)]
        await asyncio.gather(*(score_one(arena, 6) for arena in arenas))
        assert judge.most_at_work == 2

    async def test_waiting_for_a_retry_holds_no_place(self) -> None:
        waiting = asyncio.Event()

        async def compare(first: int, second: int) -> float:
            if (first, second) == (0, 1) and not waiting.is_set():
                waiting.set()
                raise JudgeFailure("rate_limit", retry_after_s=0.05)
            return 1.0

        limits = CallLimits(max_concurrency=1, backoff_s=0.0)
        judge = FakeJudge(compare)
        await score_one(Arena(config(calls=limits, orders="first"), judge), 3)
        assert judge.asked == [(0, 1), (0, 2), (1, 2), (0, 1)]


class TestGates:
    async def test_vetoed_rollouts_cost_nothing_and_are_scored(self) -> None:
        judge = FakeJudge()
        gates = [FailsGate("length", {1, 3}), FailsGate("copy", {3})]
        score = await score_one(Arena(config(), judge, gates), 5)
        assert not {1, 3} & {i for pair in judge.asked for i in pair}
        assert score.gate_failures == {"length": (1, 3), "copy": (3,)}
        assert score.rewards[1] == score.rewards[3] == 0.0
        best = (await score_one(Arena(config(), FakeJudge()), 5, slots=[0, 2, 4])).rewards[0]
        assert best is not None
        assert score.rewards[0] == pytest.approx((best * 2 + 2) / 4)

    async def test_score_judges_put_them_below(self) -> None:
        async def compare(first: int, second: int) -> float:
            return float(second - first)

        score = await score_one(Arena(config(), FakeJudge(compare, kind="score"), [FailsGate("g", {1})]), 3)
        assert score.rewards == pytest.approx([1.0, -2.0, -1.0])

    async def test_win_rates_of_score_judges_are_probabilities(self) -> None:
        async def compare(first: int, second: int) -> float:
            return float(second - first)

        arena = Arena(
            config(aggregator=WinRate(kind="win_rate")), FakeJudge(compare, kind="score"), [FailsGate("g", {1})]
        )
        assert (await score_one(arena, 3)).rewards == [1.0, 0.0, 0.5]

    async def test_a_veto_completes_the_group_for_elimination(self) -> None:
        arena = Arena(config(topology=SingleElimination(kind="single_elimination")), FakeJudge(), [FailsGate("g", {0})])
        await arena.open(KEY, PROMPT, 3)
        for index in range(3):
            await arena.add(KEY, index, Candidate(str(index), ""))
        score = (await arena.scores())[KEY]
        assert score.rewards[0] == 0.0
        assert score.num_scored == 3


class SlowGate:
    """Takes a while over each candidate; fails the given ids, breaks on `breaks_on`."""

    name = "slow"

    def __init__(self, ids: set[int], breaks_on: int | None = None) -> None:
        self._ids, self._breaks_on = ids, breaks_on
        self.at_work = 0

    async def check(self, prompt: Prompt, candidate: Candidate) -> str | None:
        self.at_work += 1
        try:
            await asyncio.sleep(0.01 if int(candidate.id) != self._breaks_on else 0.0)
        finally:
            self.at_work -= 1
        if int(candidate.id) == self._breaks_on:
            raise UserError("gate slow: broken")
        return "no" if int(candidate.id) in self._ids else None


class HalfGate:
    """A soft gate: 0 for the given ids, else 1."""

    name, weight = "half", 1.0

    def __init__(self, ids: set[int]) -> None:
        self._ids = ids

    def score(self, prompt: Prompt, candidate: Candidate) -> float:
        return float(int(candidate.id) not in self._ids)


class TestGatesThatWait:
    async def test_they_change_nothing_but_the_time(self) -> None:
        quick = await score_one(Arena(config(), FakeJudge(), [FailsGate("slow", {1, 3})]), 5)
        slow = await score_one(Arena(config(), FakeJudge(), [SlowGate({1, 3})]), 5)
        assert (slow.rewards, slow.gate_failures) == (quick.rewards, quick.gate_failures)
        assert slow.num_calls == quick.num_calls

    async def test_adding_does_not_wait_for_them_and_a_closed_group_does(self) -> None:
        gate = SlowGate(set())
        arena = Arena(config(), FakeJudge(), [gate])
        await arena.open(KEY, PROMPT, 3)
        for index in range(2):
            await arena.add(KEY, index, Candidate(str(index), ""))
        await arena.close(KEY)
        assert arena.unfinished() == [f"gates of {KEY}/0", f"gates of {KEY}/1"]
        with pytest.raises(ValueError, match="after the group was closed"):
            await arena.add(KEY, 2, Candidate("2", ""))
        assert (await arena.scores())[KEY].num_scored == 2

    async def test_a_broken_one_surfaces_and_leaves_nothing_running(self) -> None:
        arena = Arena(config(), FakeJudge(), [SlowGate(set(), breaks_on=1)])
        await arena.open(KEY, PROMPT, 3)
        for index in range(3):
            await arena.add(KEY, index, Candidate(str(index), ""))
        with pytest.raises(UserError, match="gate slow: broken"):
            await arena.scores()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_stopping_ends_them(self) -> None:
        gate = SlowGate(set())
        arena = Arena(config(), FakeJudge(), [gate])
        await arena.open(KEY, PROMPT, 2)
        await arena.add(KEY, 0, Candidate("0", ""))
        while not gate.at_work:
            await asyncio.sleep(0)
        await arena.add(KEY, 1, Candidate("1", ""))
        await arena.stop()
        assert gate.at_work == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


class TestSoftGates:
    async def test_they_multiply_probabilities_and_veto_nobody(self) -> None:
        plain = await score_one(Arena(config(), FakeJudge()), 3)
        score = await score_one(Arena(config(), FakeJudge(), [HalfGate({1})]), 3)
        assert score.gate_scores == {"half": [1.0, 0.0, 1.0]}
        assert score.gate_factors == pytest.approx([1.0, 1 / 101, 1.0])
        assert plain.gate_factors == []
        assert score.gate_failures == {}
        assert score.num_calls == plain.num_calls
        middle = plain.rewards[1]
        assert middle is not None
        assert score.rewards == pytest.approx([plain.rewards[0], middle / 101, plain.rewards[2]])

    async def test_strengths_lose_the_logarithm_and_the_vetoed_stay_below(self) -> None:
        async def compare(first: int, second: int) -> float:
            return float(second - first)

        judge = FakeJudge(compare, kind="score")
        plain = await score_one(Arena(config(), judge, [FailsGate("g", {2})]), 4)
        gates = [HalfGate({0}), FailsGate("g", {2})]
        score = await score_one(Arena(config(), FakeJudge(compare, kind="score"), gates), 4)
        best = plain.rewards[0]
        assert best is not None
        assert score.rewards[0] == pytest.approx(best - math.log(101))
        assert score.rewards[2] == min(reward for reward in score.rewards if reward is not None)
        assert score.gate_scores == {"half": [0.0, 1.0, 1.0, 1.0]}


class TestPrior:
    async def test_training_carries_it(self) -> None:
        arena = Arena(config(), FakeJudge())
        assert arena.prior is None
        await score_one(arena, 4)
        first = arena.prior
        assert first is not None
        await score_one(arena, 4)
        assert arena.prior != first
        resumed = Arena(config(), FakeJudge(), prior=first)
        await score_one(resumed, 4)
        assert resumed.prior == arena.prior

    async def test_others_leave_it(self) -> None:
        arena = Arena(config(), FakeJudge(), carry_prior=False)
        first = await score_one(arena, 4)
        assert arena.prior is None
        assert (await score_one(arena, 4)).rewards == first.rewards


def test_group_seeds_are_the_same_in_every_process() -> None:
    code = (
        "from rewards.tournament import group_seed\n"
        "from rewards.types import GroupKey\n"
        "print(group_seed(3, GroupKey('a', 1)))"
    )
    seeds = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert seeds == {f"{group_seed(3, GroupKey('a', 1))}\n"}
    assert len({group_seed(3, GroupKey("a", 1)), group_seed(4, GroupKey("a", 1)), group_seed(3, GroupKey("a", 2))}) == 3


# --- prior scores --------------------------------------------------------------------------------------------------


def by_length(prompt: Prompt, candidate: Candidate) -> float:
    return float(len(candidate.text))


async def played_rounds(prior_scorer: Any) -> dict[int, set[tuple[int, int]]]:
    swiss = Swiss(kind="swiss", seeding="prior", rounds=1)
    arena = Arena(config(topology=swiss), FakeJudge(symmetric=True), prior_scorer=prior_scorer)
    await arena.open(KEY, PROMPT, 4)
    try:
        for index, text in enumerate(["long text", "x", "longer text", "xy"]):
            await arena.add(KEY, index, Candidate(str(index), text))
        (score,) = (await arena.scores()).values()
    finally:
        await arena.stop()
    rounds: dict[int, set[tuple[int, int]]] = {}
    for match in score.matches:
        rounds.setdefault(match.pairing.round, set()).add((match.pairing.a, match.pairing.b))
    return rounds


async def test_topologies_that_seed_by_prior_are_given_the_scorers_word() -> None:
    assert await played_rounds(by_length) == {1: {(0, 2), (1, 3)}}
    assert await played_rounds(lambda prompt, candidate: float(int(candidate.id) in (0, 1))) == {1: {(0, 1), (2, 3)}}


@pytest.mark.parametrize("value", [None, float("nan"), "7"])
async def test_a_prior_score_must_be_a_finite_number(value: Any) -> None:
    with pytest.raises(UserError, match=r"rewards.prior_scorer: .* finite number, got"):
        await played_rounds(lambda prompt, candidate: value)


# --- batch topologies ----------------------------------------------------------------------------------------------


async def test_a_batch_topology_plays_rounds_over_the_whole_batch_once_everybody_is_there() -> None:
    judge = FakeJudge(symmetric=True)
    arena = Arena(config(topology=Adaptive(kind="adaptive", calls_per_group=5, rounds=2)), judge)
    keys = [GroupKey("a"), GroupKey("b")]
    for key in keys:
        await arena.open(key, PROMPT, 6)
        for index in range(6):
            await arena.add(key, index, Candidate(str(index), ""))
    scores = await arena.scores()
    assert len(judge.asked) == sum(score.num_calls for score in scores.values()) == 10
    rounds = [{match.pairing.round for match in scores[key].matches} for key in keys]
    assert rounds[0] | rounds[1] == {0, 1, 2}
    assert all(score.num_scored == 6 for score in scores.values())


async def test_a_bug_of_the_judge_in_a_later_round_surfaces_and_nothing_is_left() -> None:
    asked = 0

    async def compare(first: int, second: int) -> float:
        nonlocal asked
        asked += 1
        if asked > 6:
            raise ZeroDivisionError("a bug")
        return float(first < second)

    arena = Arena(
        config(topology=Adaptive(kind="adaptive", calls_per_group=9, rounds=1)), FakeJudge(compare, symmetric=True)
    )
    await arena.open(KEY, PROMPT, 12)
    for index in range(12):
        await arena.add(KEY, index, Candidate(str(index), ""))
    with pytest.raises(ZeroDivisionError):
        await arena.scores()
    await arena.stop()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize("where", ["a later round", "the fit"])
async def test_a_bug_after_the_groups_were_played_stops_those_that_came_since(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def compare(first: int, second: int) -> float:
        nonlocal asked
        asked += 1
        if where == "a later round" and asked > 6:
            raise ZeroDivisionError("a bug")
        return float(first < second)

    topology = Adaptive(kind="adaptive", calls_per_group=9, rounds=1)
    arena = Arena(config(topology=topology), FakeJudge(compare, symmetric=True))
    if where == "the fit":
        monkeypatch.setattr(arena._aggregator, "fit", lambda logs, prior: 1 / 0)
    await add_all(arena, 12)
    scores = asyncio.create_task(arena.scores())
    await asyncio.sleep(0)
    await arena.open(GroupKey("since"), PROMPT, 2)
    with pytest.raises(ZeroDivisionError):
        await scores
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert arena.unfinished() == []
    for key in (KEY, GroupKey("since")):
        await arena.open(key, PROMPT, 2)  # Neither is open any more.
    await arena.stop()


def test_what_the_judge_has_not_settled_is_named() -> None:
    async def play() -> tuple[list[str], list[str]]:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def compare(first: int, second: int) -> float:
            if {first, second} == {1, 2}:
                asked.set()
                await answer.wait()
            return 1.0

        arena = Arena(config(orders="first"), FakeJudge(compare))
        await add_all(arena, 3)
        scores = asyncio.create_task(arena.scores())
        await asyncio.wait_for(asked.wait(), 5)
        while len(waiting := arena.unfinished()) > 1:
            await asyncio.sleep(0.001)
        answer.set()
        await scores
        return waiting, arena.unfinished()

    assert asyncio.run(play()) == (["match g#0: 1 against 2"], [])
