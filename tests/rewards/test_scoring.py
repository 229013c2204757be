"""The sink of per-rollout scorers."""

from __future__ import annotations

import asyncio

import pytest

from rewards.errors import UserError
from rewards.scored import Score
from rewards.scoring import ScoreFn, ScorerSink
from rewards.types import AnyGate, Candidate, GroupKey, GroupScore, GroupSink, ParsedAnswer, Prompt, Scored, TextSpan

KEY = GroupKey("g")
PROMPT = Prompt("p", "task")


class EmptyGate:
    name = "empty"

    def check(self, prompt: Prompt, candidate: Candidate) -> str | None:
        return None if candidate.text else "empty answer"


async def score(score_fn: ScoreFn, texts: list[str | None], *gates: AnyGate) -> GroupScore:
    """None = the slot never arrives."""
    sink = ScorerSink(score_fn, gates, name="my.metrics:fn")
    assert isinstance(sink, GroupSink)
    await sink.open(KEY, PROMPT, len(texts))
    for index, text in enumerate(texts):
        if text is not None:
            await sink.add(KEY, index, Candidate(str(index), text))
    await sink.close(KEY)
    return (await sink.scores())[KEY]


def length(prompt: Prompt, candidate: Candidate) -> float | None:
    return float(len(candidate.text))


async def length_async(prompt: Prompt, candidate: Candidate) -> float | None:
    await asyncio.sleep(0.001)
    return float(len(candidate.text))


@pytest.mark.parametrize("score_fn", [length, length_async])
async def test_sync_and_async(score_fn: ScoreFn) -> None:
    result = await score(score_fn, ["a", None, "abc"])
    assert result.rewards == [1.0, None, 3.0]
    assert result.num_calls == 0
    assert result.baseline_ids == [0, 0, 0]
    assert result.reliability is None


async def test_none_is_unscored() -> None:
    assert (await score(lambda prompt, candidate: None, ["a", "b"])).rewards == [None, None]


async def test_gated_rollouts_are_not_scored_by_the_function_and_stand_lowest() -> None:
    result = await score(lambda prompt, candidate: 2.0, ["a", "", "b"], EmptyGate())
    assert result.rewards == [2.0, 0.0, 2.0]
    assert result.gate_failures == {"empty": (1,)}
    assert (await score(lambda prompt, candidate: -2.0, ["a", ""], EmptyGate())).rewards == [-2.0, -2.0]


async def test_a_mapping_is_a_reward_per_segment_and_their_sum() -> None:
    values = {"a": {"slate": 0.5, "rank": 0.25}, "b": {"slate": -0.2}, "c": {"slate": 1, "rank": None}, "d": None}
    result = await score(lambda prompt, candidate: values[candidate.text], ["a", "b", None, "c", "d"])
    assert result.rewards == [0.75, -0.2, None, 1.0, None]
    assert result.segment_rewards == {"slate": [0.5, -0.2, None, 1.0, None], "rank": [0.25, None, None, None, None]}
    assert result.figures == {}


async def test_a_full_score_weighs_for_itself_and_reports_figures() -> None:
    def scorer(prompt: Prompt, candidate: Candidate) -> Scored:
        return Scored(0.5, {"slate": 2.0}, {"items": 3.0} if candidate.text == "a" else {})

    result = await score(scorer, ["a", "b"])
    assert (result.rewards, result.segment_rewards) == ([0.5, 0.5], {"slate": [2.0, 2.0]})
    assert result.figures == {"items": [3.0, None]}


async def test_a_gate_holds_for_the_segments_that_a_rollout_has() -> None:
    sink = ScorerSink(lambda prompt, candidate: {"slate": 0.5, "rank": -0.1}, [EmptyGate()])
    await sink.open(KEY, PROMPT, 2)
    await sink.add(KEY, 0, Candidate("0", "a"))
    await sink.add(KEY, 1, Candidate("1", "", parsed=ParsedAnswer(spans=(TextSpan(0, "slate", 0, 0),))))
    result = (await sink.scores())[KEY]
    assert result.rewards == [0.4, 0.0]
    assert result.segment_rewards == {"slate": [0.5, 0.0], "rank": [-0.1, None]}
    await sink.open(KEY, PROMPT, 1)  # nobody is left to name the segments
    await sink.add(KEY, 0, Candidate("1", "", parsed=ParsedAnswer(spans=(TextSpan(0, "slate", 0, 0),))))
    assert (await sink.scores())[KEY].segment_rewards == {"slate": [0.0]}


async def test_criteria_are_columns_with_the_gates_applied() -> None:
    def scorer(prompt: Prompt, candidate: Candidate) -> Scored:
        return Scored(1.0, criteria={"short": 0.5, "right": None} if candidate.text == "a" else {"short": -0.25})

    result = await score(scorer, ["a", "", None, "b"], EmptyGate())
    assert result.per_criterion == {"short": [0.5, -0.25, None, -0.25], "right": [None, 0.0, None, None]}
    soft = await score(scorer, ["a", ""], HalfGate())
    assert soft.per_criterion["short"] == pytest.approx([0.5, -0.25 - 0.25 * (1 - 0.01 / 1.01)])


@pytest.mark.parametrize(
    "value",
    [
        {"slate": float("nan")},
        {"slate": "high"},
        {},
        {"slate": None},
        Scored(float("inf")),
        Scored(0.0, {}, {"x": float("nan")}),
        Scored(0.0, criteria={"x": float("nan")}),
    ],
)
async def test_impossible_segment_scores_name_the_target(value: Score) -> None:
    with pytest.raises(UserError, match=r"my\.metrics:fn"):
        await score(lambda prompt, candidate: value, ["a"])


class HalfGate:
    """Soft: 0 for the empty answer."""

    name, weight = "half", 2.0

    async def score(self, prompt: Prompt, candidate: Candidate) -> float:
        await asyncio.sleep(0)
        return float(bool(candidate.text))


async def test_soft_gates_take_from_the_score() -> None:
    result = await score(lambda prompt, candidate: 2.0, ["a", "", None], HalfGate())
    assert result.rewards == pytest.approx([2.0, 2.0 / 101, None])
    assert result.gate_scores == {"half": [1.0, 0.0, None]}
    assert (await score(lambda prompt, candidate: -1.0, [""], HalfGate())).rewards == pytest.approx([-2.0 + 1 / 101])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "high"])
async def test_impossible_scores_name_the_target(value: float) -> None:
    with pytest.raises(UserError, match=r"my\.metrics:fn"):
        await score(lambda prompt, candidate: value, ["a"])


async def test_bugs_surface_and_leave_nothing_running() -> None:
    async def broken(prompt: Prompt, candidate: Candidate) -> float | None:
        if candidate.text == "a":
            raise KeyError("broken")
        await asyncio.sleep(3600)
        return 0.0

    with pytest.raises(KeyError, match="broken"):
        await score(broken, ["a", "b"])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_refusals() -> None:
    sink = ScorerSink(length)
    await sink.open(KEY, PROMPT, 3)
    with pytest.raises(ValueError, match="already open"):
        await sink.open(KEY, PROMPT, 3)
    await sink.add(KEY, 0, Candidate("0", "a"))
    with pytest.raises(ValueError, match="arrived twice"):
        await sink.add(KEY, 0, Candidate("0", "a"))
    with pytest.raises(ValueError, match="slot 3"):
        await sink.add(KEY, 3, Candidate("3", "a"))
    await sink.close(KEY)
    with pytest.raises(ValueError, match="after the group was closed"):
        await sink.add(KEY, 1, Candidate("1", "a"))
    assert (await sink.scores())[KEY].rewards == [1.0, None, None]
    with pytest.raises(ValueError, match="not open"):
        await sink.close(KEY)


async def test_scores_waits_for_groups_that_still_arrive() -> None:
    sink = ScorerSink(length)
    await sink.open(KEY, PROMPT, 2)
    scoring = asyncio.create_task(sink.scores())
    for index in (1, 0):
        await asyncio.sleep(0)
        assert not scoring.done()
        await sink.add(KEY, index, Candidate(str(index), "ab"))
    assert (await scoring)[KEY].rewards == [2.0, 2.0]
