"""Groups that come in pieces: whole ones are scored once, late ones without those who are missing, none is mixed up."""

from __future__ import annotations

import asyncio

import pytest

from rewards.errors import RunStopped
from rewards.gathering import Gathered, Gatherer, group_key
from rewards.texts import GroupOfTexts
from rewards.types import GroupScore


class Scorer:
    """A text's reward is its length; "x" is unscored."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []

    async def __call__(self, group: GroupOfTexts) -> GroupScore:
        self.groups.append(group.candidates)
        await asyncio.sleep(0)
        if "bug" in group.candidates:
            raise ZeroDivisionError("a bug")
        return GroupScore([None if text == "x" else float(len(text)) for text in group.candidates], reliability=0.5)


def texts(*candidates: str) -> GroupOfTexts:
    return GroupOfTexts.model_construct(prompt="p", candidates=list(candidates), id=None, fields={})


async def join(gatherer: Gatherer, *calls: tuple[str, tuple[str, ...]], size: int = 4) -> list[Gathered]:
    return await asyncio.gather(*(gatherer.join(key, texts(*candidates), size) for key, candidates in calls))


async def test_pieces_of_a_group_are_scored_together_and_each_gets_its_own() -> None:
    scorer = Scorer()
    gatherer = Gatherer(scorer, deadline_s=60.0)
    a, b, other = await join(gatherer, ("p", ("a", "bbb")), ("p", ("cc", "x")), ("q", ("dd", "d", "d", "d")))
    assert scorer.groups == [["a", "bbb", "cc", "x"], ["dd", "d", "d", "d"]]
    assert (a.rewards, b.rewards, other.rewards) == ([1.0, 3.0], [2.0, None], [2.0, 1.0, 1.0, 1.0])
    assert (a.group_mean, a.num_scored, a.group_size, a.reliability) == (2.0, 3, 4, 0.5)
    assert gatherer.waiting == 0


async def test_a_prompt_that_comes_twice_fills_one_group_after_the_other() -> None:
    scorer = Scorer()
    first, second, third = await join(
        Gatherer(scorer, deadline_s=60.0), ("p", ("a", "aa", "aaa")), ("p", ("b", "bb", "bbb")), ("p", ("cc", "ccc"))
    )
    assert scorer.groups == [["a", "aa", "aaa", "b"], ["bb", "bbb", "cc", "ccc"]]
    assert (first.rewards, second.rewards, third.rewards) == ([1, 2, 3], [1, 2, 3], [2, 3])


async def test_after_the_deadline_those_who_are_there_are_scored() -> None:
    scorer = Scorer()
    gatherer = Gatherer(scorer, deadline_s=0.02)
    some, alone = await join(gatherer, ("p", ("a", "bb")), ("q", ("c",)))
    assert (some.rewards, some.group_size) == ([1.0, 2.0], 2)
    assert (alone.rewards, alone.group_mean, alone.num_scored) == ([None], None, 0)
    assert scorer.groups == [["a", "bb"]]
    late, _ = await join(gatherer, ("p", ("late",)), ("p", ("later",)), size=2)
    assert late.rewards == [4.0], "of the next group, not of the one that is over"


async def test_a_bug_reaches_all_who_wait_and_giving_up_takes_nothing_from_the_others() -> None:
    gatherer = Gatherer(Scorer(), deadline_s=60.0)
    failed = await asyncio.gather(
        *(gatherer.join("p", texts(text), 2) for text in ("a", "bug")), return_exceptions=True
    )
    assert [type(error) for error in failed] == [ZeroDivisionError] * 2
    gone = asyncio.create_task(gatherer.join("q", texts("a"), 2))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await gatherer.join("q", texts("bb"), 2)).rewards == [2.0]
    with pytest.raises(asyncio.CancelledError):
        await gone


def test_a_group_has_one_prompt_and_one_set_of_fields_whatever_it_is_called() -> None:
    asked = GroupOfTexts(prompt="2+2?", candidates=["4", "5"], fields={"truth": "4"})
    same = asked.model_copy(update={"candidates": ["six"], "id": "other"})
    assert group_key(asked) == group_key(same)
    assert group_key(asked, "a/0") == group_key(same, "a/0")
    others = [asked.model_copy(update=change) for change in ({"prompt": "Capital of France?"}, {"fields": {}})]
    keys = [group_key(one, name) for one in (asked, *others) for name in (None, "a/0", "a/1")]
    assert len(set(keys)) == 9


async def test_a_group_whose_scoring_failed_is_scored_when_its_answers_are_brought_again() -> None:
    groups: list[list[str]] = []

    async def score(group: GroupOfTexts) -> GroupScore:
        groups.append(group.candidates)
        if len(groups) == 1:
            raise RunStopped("judge j is down")
        return GroupScore([float(len(text)) for text in group.candidates])

    gatherer = Gatherer(score, deadline_s=60.0)

    async def bring(text: str) -> list[float | None]:
        return (await gatherer.join("p", texts(text), 2, ids=[f"id of {text}"])).rewards

    failed = await asyncio.gather(bring("a"), bring("bb"), return_exceptions=True)
    assert [type(error) for error in failed] == [RunStopped] * 2
    assert await asyncio.gather(bring("bb"), bring("a")) == [[2.0], [1.0]]
    assert groups == [["a", "bb"], ["bb", "a"]]


async def test_an_answer_that_is_asked_about_again_is_no_second_one() -> None:
    scorer = Scorer()
    gatherer = Gatherer(scorer, deadline_s=0.05)
    lost = asyncio.create_task(gatherer.join("p", texts("a"), 2, ids=["1"]))
    await asyncio.sleep(0)
    lost.cancel()
    again = asyncio.create_task(gatherer.join("p", texts("a"), 2, ids=["1"]))
    await asyncio.sleep(0)
    other = await gatherer.join("p", texts("bb"), 2, ids=["2"])
    late = await gatherer.join("p", texts("a"), 2, ids=["1"])  # after the group was scored
    assert ((await again).rewards, other.rewards, late.rewards) == ([1.0], [2.0], [1.0])
    assert scorer.groups == [["a", "bb"]]
    await asyncio.sleep(0.1)
    assert gatherer._known == {}
