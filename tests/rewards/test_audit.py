"""A second judge in training: which pairs it is asked about, what it may spend, and that it hurts nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.arena import Arena
from rewards.audit import AuditedSink, draw_pairs
from rewards.budget import split_budget
from rewards.config import CallBudget, CallLimits, TournamentRewards
from rewards.diagnostics.agreement import decided_pairs
from rewards.diagnostics.audited import audit_agreement, audited_metrics, calibration_accuracy
from rewards.errors import JudgeFailure, RunStopped
from rewards.judge_config import PythonJudge
from rewards.limiter import LocalLimiter
from rewards.types import (
    Audit,
    Call,
    Candidate,
    GroupKey,
    GroupScore,
    KnownAnswer,
    Match,
    Pairing,
    Prompt,
    Ranking,
    Slate,
    Verdict,
    VerdictKind,
)

PYTHON = PythonJudge(kind="python", target="a:b")
Say = Callable[[int, int], float | None]


def lower(first: int, second: int) -> float:
    return float(first < second)


class Fake:
    kind: VerdictKind = "hard"

    def __init__(self, name: str, say: Say = lower, *, symmetric: bool = False, cost: float = 0.0) -> None:
        self.name, self.symmetric, self._say, self._cost = name, symmetric, say, cost
        self.asked: list[tuple[str, int, int]] = []

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        self.asked.append((prompt.id, int(first.text), int(second.text)))
        await asyncio.sleep(0)
        value = self._say(int(first.text), int(second.text))
        if value is None:
            raise JudgeFailure("timeout", retryable=True)
        return Verdict(value, tokens_in=10, cost=self._cost)

    async def close(self) -> None: ...


def audited(
    second: Fake, share: float = 0.5, *, budget: CallBudget = CallBudget(), down_after_s: float = 60.0, **more: object
) -> AuditedSink:
    calls = CallLimits(backoff_s=0.0, max_attempts=2, down_after_s=down_after_s)
    config = TournamentRewards(judge=PYTHON, calls=CallLimits(backoff_s=0.0))
    arena = Arena(config, Fake("first"), groups_per_step=2)
    return AuditedSink(arena, second, share, calls, limiter=LocalLimiter(1), budget=budget, **more)  # pyright: ignore[reportArgumentType]


async def play(sink: AuditedSink | Arena, *names: str, size: int = 4) -> list[GroupScore]:
    keys = [GroupKey(name) for name in names]
    for key in keys:
        await sink.open(key, Prompt(key.group_id, "task"), size)
        for slot in range(size):
            await sink.add(key, slot, Candidate(f"{key}/{slot}", str(slot)))
        await sink.close(key)
    scores = await sink.scores()
    return [scores[key] for key in keys]


def calls_of(scores: Sequence[GroupScore]) -> list[Call]:
    return [
        call for score in scores if score.audit is not None for match in score.audit.matches for call in match.calls
    ]


# --- which pairs ------------------------------------------------------------------------------------------------


async def test_a_share_of_the_pairs_is_asked_in_both_orders_and_enters_no_reward() -> None:
    second = Fake("second", lambda first, second: float(first > second))
    told: list[Call] = []
    scores = await play(audited(second, 0.5, on_call=lambda key, call: told.append(call)), "g", "h")
    plain = await play(Arena(TournamentRewards(judge=PYTHON), Fake("first"), groups_per_step=2), "g", "h")
    for score, alone in zip(scores, plain, strict=True):
        assert (score.rewards, score.reliability, score.num_calls) == (
            alone.rewards,
            alone.reliability,
            alone.num_calls,
        )
        assert decided_pairs(score) == decided_pairs(alone)
    calls = calls_of(scores)
    assert len(calls) == len(told) == len(second.asked) == 2 * 6, "half of 2 x 6 pairs"
    assert audited_metrics(scores)["audit_tokens"] == 10.0 * len(calls)
    assert {call.judge for call in calls} == {"second"}
    for score in scores:
        assert score.audit is not None
        assert score.num_calls == 12
        for match in score.audit.matches:
            a, b = match.pairing.a, match.pairing.b
            assert [(call.first, call.second) for call in match.calls] == [(a, b), (b, a)]
    assert scores[0].num_calls_about_judge + scores[1].num_calls_about_judge == 12
    again = Fake("second", lambda first, second: float(first > second))
    await play(audited(again, 0.5), "h", "g")
    assert sorted(again.asked) == sorted(second.asked), "the lots do not depend on who came first"


async def test_a_symmetric_judge_is_asked_once_and_one_of_scores_by_its_sign() -> None:
    second = Fake("second", lambda first, second: 3.5 * (second - first), symmetric=True)
    second.kind = "score"
    scores = await play(audited(second, 1.0), "g")
    assert len(calls_of(scores)) == 6
    metrics = audited_metrics(scores)
    assert (metrics["audit_agreement"], metrics["num_audited"], metrics["num_audit_calls"]) == (1.0, 6.0, 6.0)


@given(st.integers(0, 40), st.floats(0.01, 1.0), st.integers(0, 3))
def test_the_share_is_met_and_the_first_lots_do_not_depend_on_it(num_pairs: int, share: float, seed: int) -> None:
    decided = {GroupKey("g"): [Pairing(0, n) for n in range(1, num_pairs + 1)], GroupKey("h"): [Pairing(3, 4)]}
    drawn = draw_pairs(decided, share, seed)
    assert share * (num_pairs + 1) - 1e-6 <= len(drawn) < share * (num_pairs + 1) + 1
    assert draw_pairs(decided, 1.0, seed)[: len(drawn)] == drawn
    assert len(set(drawn)) == len(drawn)


def test_decided_pairs_of_matches_routers_and_slates() -> None:
    def call(first: int, second: int, value: float | None, judge: str = "j") -> Call:
        return Call(first, second, Verdict(value, None if value is not None else "timeout"), judge)

    matches = (
        Match(Pairing(0, 1), (call(0, 1, 1.0), call(1, 0, 0.0))),
        Match(Pairing(0, 2), (call(0, 2, 1.0), call(2, 0, 1.0))),
        Match(Pairing(1, 2), (call(1, 2, None),)),
        Match(Pairing(1, 3), (call(1, 3, 1.0, "router:tests"),)),
    )
    assert decided_pairs(GroupScore([None] * 4, matches=matches, kind="hard")) == {
        Pairing(0, 1): 1.0,
        Pairing(0, 2): 0.5,
    }
    rankings = (
        Ranking(Slate((0, 1, 2)), (2, 0, 1), (0, 1, 1), "j"),
        Ranking(Slate((0, 1, 2)), (0, 1, 2), (0, 1, 2), "j"),
        Ranking(Slate((0, 3)), (0, 3), None, "j", "timeout"),
    )
    assert decided_pairs(GroupScore([None] * 4, rankings=rankings, kind="hard")) == {
        Pairing(0, 1): 1.0,  # level, then won
        Pairing(0, 2): 0.5,  # lost, then won
        Pairing(1, 2): 0.5,
    }


# --- what may go wrong ------------------------------------------------------------------------------------------


async def test_failures_of_the_second_judge_are_counted_and_cost_the_run_nothing() -> None:
    second = Fake("second", lambda first, second: None if first < second else 0.0)
    scores = await play(audited(second, 1.0), "g")
    calls = calls_of(scores)
    assert [call.verdict.failure for call in calls].count("timeout") == 6
    assert {call.verdict.attempts for call in calls if call.verdict.failure} == {2}
    metrics = audited_metrics(scores)
    assert (metrics["num_audit_failed"], metrics["num_audit_unasked"], metrics["num_audited"]) == (6.0, 0.0, 6.0)
    assert metrics["audit_agreement"] == 1.0, "by the order that has a verdict"
    assert scores[0].num_failed == 0


async def test_a_second_judge_that_is_down_is_given_up_and_asked_again_in_the_next_step() -> None:
    up = False
    said: list[str] = []
    second = Fake("second", lambda first, second: float(first < second) if up else None)
    sink = audited(second, 1.0, down_after_s=1e-9, say=said.append)
    (down,) = await play(sink, "g", size=8)
    assert down.audit is not None
    assert down.num_scored == 8
    assert down.audit.num_unasked > 0
    assert len(second.asked) < 2 * 28, "after twenty attempts in a row nobody asks further"
    asked = len(second.asked)
    (still,) = await play(sink, "h", size=8)
    assert still.audit is not None
    assert still.audit.num_unasked == 28
    assert len(second.asked) <= asked + 9, "a knock or two"
    assert len(said) == 1
    assert "the second judge is down, training goes on: judge second is down" in said[0]
    up = True
    (fine,) = await play(sink, "i", size=8)
    assert fine.audit is not None
    assert fine.audit.num_unasked == 0
    assert audited_metrics([down, still, fine])["num_audited"] >= 28


async def test_a_second_judge_that_hangs_holds_a_step_up_for_a_few_calls_time_and_no_longer() -> None:
    class Hangs(Fake):
        async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
            self.asked.append((prompt.id, int(first.text), int(second.text)))
            await asyncio.sleep(600.0)
            raise AssertionError

    second = Hangs("second")
    calls = CallLimits(timeout_s=0.02, backoff_s=0.0, max_attempts=2, down_after_s=0.02)
    arena = Arena(TournamentRewards(judge=PYTHON), Fake("first"), groups_per_step=1)
    sink = AuditedSink(arena, second, 1.0, calls, limiter=LocalLimiter(16))
    for name in ("g", "h", "i"):
        (score,) = await play(sink, name, size=16)
        assert score.audit is not None
        assert score.audit.num_unasked > 100
    assert len(second.asked) < 80, "of 720: twenty until it is down, those of one call's time, a knock or two a step"
    assert sink.unfinished() == []


async def test_a_bug_of_the_second_judge_surfaces_and_leaves_nothing() -> None:
    def breaks(first: int, second: int) -> float:
        raise ZeroDivisionError

    sink = audited(Fake("second", breaks), 1.0)
    with pytest.raises(ZeroDivisionError):
        await play(sink, "g")
    assert sink.unfinished() == []


# --- what it may spend ------------------------------------------------------------------------------------------


@given(
    st.integers(1, 10_000),
    st.floats(0.001, 100.0),
    st.fractions(Fraction(1, 100), 4, max_denominator=100),
)
def test_both_parts_of_a_budget_are_the_whole(calls: int, cost: float, rate: Fraction) -> None:
    whole = CallBudget(calls_per_group=7, calls_per_step=calls, tokens_per_run=calls, cost_per_run=cost)
    first, second = split_budget(whole, float(rate))
    assert (first.calls_per_group, second.calls_per_group) == (7, None)
    for name in ("calls_per_step", "tokens_per_run"):
        assert getattr(first, name) + getattr(second, name) == calls
        assert getattr(second, name) == calls * rate // (1 + rate)
        assert getattr(first, name) >= 1
    assert first.cost_per_run is not None
    assert second.cost_per_run is not None
    assert first.cost_per_run + second.cost_per_run == pytest.approx(cost)
    assert second.cost_per_run == pytest.approx(cost * float(rate / (1 + rate)))
    assert first.calls_per_run is second.calls_per_run is None


@pytest.mark.parametrize(
    ("budget", "asked"),
    [
        (CallBudget(calls_per_step=5), [4, 4, 4]),
        (CallBudget(calls_per_run=10), [10, 0, 0]),
        (CallBudget(tokens_per_step=60), [6, 6, 6]),
        (CallBudget(cost_per_run=2.0), [8, 0, 0]),
    ],
)
async def test_its_part_of_a_budget_holds_per_step_and_run(budget: CallBudget, asked: list[int]) -> None:
    second = Fake("second", cost=0.25)
    sink = audited(second, 1.0, budget=budget)
    for name, number in zip("abc", asked, strict=True):
        before = len(second.asked)
        scores = await play(sink, name)
        assert len(second.asked) - before == number
        assert scores[0].audit is not None
        assert scores[0].audit.num_unasked == 6 - len(scores[0].audit.matches)
        assert scores[0].num_scored == 4


async def test_a_run_whose_budget_is_spent_says_whose_part_that_was() -> None:
    whole = CallBudget(calls_per_run=24)
    first, second = split_budget(whole, 1.0)
    arena = Arena(TournamentRewards(judge=PYTHON, budget=first), Fake("first"), groups_per_step=1)
    sink = AuditedSink(arena, Fake("second"), 1.0, CallLimits(), limiter=LocalLimiter(1), budget=second)
    await play(sink, "g")
    with pytest.raises(RunStopped, match=r"calls_per_run: all 12 .* \(the rest of it is for the second judge"):
        await play(sink, "h")


async def test_a_refill_belongs_to_its_step() -> None:
    second = Fake("second")
    sink = audited(second, 1.0, budget=CallBudget(calls_per_step=16))
    await play(sink, "a")
    assert sink.refill(1)
    await play(sink, "b")
    assert len(second.asked) == 16
    assert sink.refill(1)
    await play(sink, "c")
    assert len(second.asked) == 16, "nothing is left of this step"
    await play(sink, "d")
    assert len(second.asked) == 28


# --- figures ----------------------------------------------------------------------------------------------------


def score_of(first: Sequence[float], second: Sequence[float | None], known: Sequence[float | None] = ()) -> GroupScore:
    def match(n: int, value: float | None, judge: str) -> Match:
        verdict = Verdict(value, None if value is not None else "timeout")
        return Match(Pairing(0, n + 1), (Call(0, n + 1, verdict, judge),))

    return GroupScore(
        [0.5] * 9,
        matches=tuple(match(n, value, "first") for n, value in enumerate(first)),
        kind="hard",
        audit=Audit("probability", tuple(match(n, value, "second") for n, value in enumerate(second)), num_unasked=1),
        known_answers=tuple(KnownAnswer("first", result) for result in known),
    )


def test_figures_by_hand() -> None:
    scores = [
        score_of([1.0, 1.0, 0.0], [0.9, 0.4, 0.1], [1.0, 0.5]),
        score_of([1.0, 0.5], [0.8, 0.5], [0.0, None, 1.0]),
        score_of([0.0, 0.0], [None]),
    ]
    agreement = audit_agreement(scores)
    # Agreed: win, loss, win, tie; not: win against loss. Firsts 3 wins, 1 tie, 1 loss; seconds 2, 1, 2.
    assert agreement.num_matches == 5
    assert agreement.share.value == pytest.approx(4 / 5)
    by_chance = (3 * 2 + 1 * 1 + 1 * 2) / 25
    assert agreement.kappa.value == pytest.approx((0.8 - by_chance) / (1 - by_chance))
    metrics = audited_metrics(scores)
    assert metrics["num_audited"] == 5.0
    assert metrics["num_audit_calls"] == 6.0
    assert metrics["num_audit_failed"] == 1.0
    assert metrics["num_audit_unasked"] == 3.0
    assert (metrics["audit_tokens"], metrics["audit_cost"]) == (0.0, 0.0)
    assert metrics["calibration_accuracy"] == pytest.approx(2.5 / 4)
    assert metrics["calibration_accuracy_low"] < 2.5 / 4 < metrics["calibration_accuracy_high"]
    assert (metrics["num_calibrated"], metrics["num_calibration_failed"]) == (4.0, 1.0)
    assert not any("/" in name for name in metrics), "one judge has no line of its own"


def test_members_of_a_panel_have_figures_of_their_own_and_nothing_asked_is_no_figure() -> None:
    score = GroupScore([None], known_answers=(KnownAnswer("a", 1.0), KnownAnswer("b", 0.0), KnownAnswer("b", 1.0)))
    metrics = audited_metrics([score])
    assert (metrics["a/calibration_accuracy"], metrics["b/calibration_accuracy"]) == (1.0, 0.5)
    assert calibration_accuracy([score], "b").num_groups == 2
    assert audited_metrics([GroupScore([None])]) == {}
    silent = audited_metrics([score_of([1.0], [None])])
    assert "audit_agreement" not in silent
    assert silent["num_audit_failed"] == 1.0
    assert np.isfinite(list(silent.values())).all()
