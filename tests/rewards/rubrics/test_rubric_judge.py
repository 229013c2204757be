"""The judge over a scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rewards.arena import Arena
from rewards.cache import JudgeCache
from rewards.config import CallBudget, CallLimits, TournamentRewards
from rewards.endpoint_config import EndpointConfig
from rewards.errors import JudgeFailure, RunStopped, UserError
from rewards.judges import build_judge
from rewards.match_rows import match_rows
from rewards.rubric_config import Criterion, Rubric, RubricJudge
from rewards.rubrics.store import CachedStore, CriteriaStore, MemoryStore
from rewards.types import Acquainted, Candidate, Completion, GroupKey, Judge, Message, ParsedAnswer, Prompt
from tests.fakes.completers import Asked, FakeCompleter

PROMPT = Prompt("p1", "Why is the sky blue?")
ENDPOINT = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m")
RUBRIC = Rubric(
    criteria=(
        Criterion(id="facts", text="No false claims.", type="fatal"),
        Criterion(id="depth", text="Explains the cause.", type="core"),
        Criterion(id="style", text="Reads well.", type="highlight", scale=1),
    )
)

Script = Callable[[Sequence[str]], dict[str, Any] | str]


class Scripted(FakeCompleter):
    """Answers from the data of what it is asked, after a turn of the event loop."""

    def __init__(self, script: Script) -> None:
        self.script = script
        super().__init__(self._reply)

    def _reply(self, asked: Asked) -> str:
        said = self.script(asked.texts)
        return said if isinstance(said, str) else json.dumps(said)

    async def complete(self, *args: Any, **keys: Any) -> Completion:
        await asyncio.sleep(0)
        return await super().complete(*args, **keys)


def verdicts(**better_by: tuple[str, int]) -> dict[str, Any]:
    return {
        "criteria": [
            {"id": name, "evidence": "quote", "reason": "why", "better": better, "by": by}
            for name, (better, by) in better_by.items()
        ]
    }


def deeper_is_longer(texts: Sequence[str]) -> dict[str, Any]:
    """Facts differ where one text says `false`, depth by length."""
    first, second = texts[-2:]
    facts = ("false" in second) - ("false" in first)
    depth = (len(first) > len(second)) - (len(first) < len(second))
    named = {1: "A", -1: "B", 0: "same"}
    return verdicts(facts=(named[facts], 2 * abs(facts)), depth=(named[depth], 2 * abs(depth)), style=("same", 0))


def config(**keys: Any) -> RubricJudge:
    return RubricJudge(**{"kind": "rubric", "endpoint": ENDPOINT, "rubric": RUBRIC, **keys})


def judge_of(script: Script, store: CriteriaStore | None = None, **keys: Any) -> tuple[Judge, Scripted]:
    completer = Scripted(script)
    return build_judge(config(**keys), completer=completer, seed=3, criteria_store=store), completer


def text_of(messages: Sequence[Message]) -> str:
    return "\n".join(message.text for message in messages)


async def test_scores_are_added_up_here() -> None:
    judge, completer = judge_of(deeper_is_longer)
    assert (judge.name, judge.kind, judge.symmetric) == ("rubric:m", "score", False)
    said = await judge.compare(PROMPT, Candidate("a", "a long answer"), Candidate("b", "short"))
    assert said.value == pytest.approx(5 / 6)
    assert said.criteria == {"facts": 0.0, "depth": 1.0, "style": 0.0}
    assert said.reason == "depth +1: quote | why"
    assert (said.tokens_in, said.tokens_out, said.cost) == (10, 2, 0.5)
    vetoed = await judge.compare(PROMPT, Candidate("a", "a long, false answer"), Candidate("b", "short"))
    assert vetoed.value == -2.0
    messages, schema = completer.asked[0].messages, completer.asked[0].schema
    assert "- depth (core, 0 to 2): Explains the cause." in text_of(messages)
    assert "- style (highlight, 0 to 1): Reads well." in text_of(messages)
    assert schema is not None
    await judge.close()
    assert completer.num_closed == 1


async def test_hard_verdicts_and_their_margin() -> None:
    longer, shorter = Candidate("a", "a long answer"), Candidate("b", "short")
    judge, _ = judge_of(deeper_is_longer, verdict="hard")
    assert judge.kind == "hard"
    assert [(await judge.compare(PROMPT, *pair)).value for pair in ((longer, shorter), (shorter, longer))] == [1.0, 0.0]
    assert (await judge.compare(PROMPT, longer, longer)).value == 0.5
    judge, _ = judge_of(deeper_is_longer, verdict="hard", min_margin=0.9)
    assert (await judge.compare(PROMPT, longer, shorter)).value == 0.5  # 5 / 6 is within the margin.


async def test_a_bad_reply_is_asked_for_again_with_another_seed() -> None:
    replies = iter(["no JSON", json.dumps(verdicts(facts=("same", 0))), deeper_is_longer(["", "aa", "a"])])
    judge, completer = judge_of(lambda texts: next(replies))
    for words in ("does not end with a JSON object", "'depth' is missing"):
        with pytest.raises(JudgeFailure, match=words):
            await judge.compare(PROMPT, Candidate("a", "x"), Candidate("b", "y"))
    assert (await judge.compare(PROMPT, Candidate("a", "x"), Candidate("b", "y"))).value == pytest.approx(5 / 6)
    assert [asked.seed for asked in completer.asked] == [0, 1, 2]


async def test_path_and_answer() -> None:
    rubric = Rubric(
        criteria=(
            Criterion(id="plan", text="Plans.", type="core", part="path"),
            Criterion(id="depth", text="Explains.", type="core"),
        ),
        part_weights={"path": 0.6, "answer": 0.4},
    )
    judge, completer = judge_of(lambda texts: verdicts(plan=("A", 2), depth=("B", 1)), rubric=rubric)
    first = Candidate("a", "whole", parsed=ParsedAnswer(parts={"path": "searched", "answer": "blue"}))
    said = await judge.compare(PROMPT, first, Candidate("b", "only an answer"))
    assert said.value == pytest.approx(0.6 * 1.0 - 0.4 * 0.5)
    messages = completer.asked[0].messages
    assert completer.asked[0].texts == [
        *(PROMPT.text, "searched", "blue", "", "only an answer"),
    ]
    assert "- plan (core, 0 to 2): Plans. (look at the path)" in text_of(messages)
    assert "Answer A, its path:" in text_of(messages)


# --- several votes ---------------------------------------------------------------------------------------------


WARM = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m", temperature=1.0)
LONGER, SHORTER = Candidate("a", "a long answer"), Candidate("b", "short")


def saying(*better: str) -> Script:
    """One vote after the other: who is better in depth; anything else is no verdict."""
    left = iter(better)

    def script(texts: Sequence[str]) -> dict[str, Any] | str:
        said = next(left)
        if said not in ("A", "B", "same"):
            return said
        return verdicts(facts=("same", 0), depth=(said, 0 if said == "same" else 2), style=("same", 0))

    return script


@pytest.mark.parametrize(
    ("keys", "kind", "value"),
    [
        ({}, "score", (5 / 6 + 5 / 6 - 5 / 6) / 3),
        ({"verdict": "hard"}, "probability", 2 / 3),
        ({"merge_votes": "majority"}, "hard", 1.0),
        ({"verdict": "hard", "merge_votes": "majority"}, "hard", 1.0),
    ],
)
async def test_votes_become_one_verdict(keys: dict[str, Any], kind: str, value: float) -> None:
    judge, completer = judge_of(saying("B", "A", "A"), endpoint=WARM, votes=3, **keys)
    assert judge.kind == kind
    said = await judge.compare(PROMPT, LONGER, SHORTER)
    assert said.value == pytest.approx(value)
    assert said.criteria == {"facts": 0.0, "depth": pytest.approx(1 / 3), "style": 0.0}
    assert said.reason == "depth +1: quote | why"  # a vote that leans as the verdict does
    assert (said.tokens_in, said.tokens_out, said.cost) == (30, 6, 1.5)
    assert [asked.seed for asked in completer.asked] == [0, 1, 2]


async def test_a_vote_that_failed_is_missing_and_all_of_them_are_a_failure_that_costs_what_it_took() -> None:
    judge, completer = judge_of(saying("A", "no JSON", "B", "x", "y", "z"), endpoint=WARM, votes=3)
    assert (await judge.compare(PROMPT, LONGER, SHORTER)).value == pytest.approx(0.0)
    with pytest.raises(JudgeFailure, match="does not end with a JSON object") as caught:
        await judge.compare(PROMPT, LONGER, SHORTER)
    assert (caught.value.tokens_in, caught.value.tokens_out, caught.value.cost) == (30, 6, 1.5)
    assert [asked.seed for asked in completer.asked] == [0, 1, 2, 0, 1, 2]


async def test_criteria_are_written_by_one_vote_and_a_comparison_that_fails_pays_for_them() -> None:
    def script(texts: Sequence[str]) -> dict[str, Any] | str:
        return writes_then_compares(texts) if "- why (core" not in texts[-1] else "no JSON"

    judge, completer = judge_of(script, endpoint=WARM, votes=2, criteria_from="prompt")
    with pytest.raises(JudgeFailure) as caught:
        await judge.compare(PROMPT, LONGER, SHORTER)
    assert len(completer.asked) == 1 + 2
    assert (caught.value.tokens_in, caught.value.written) == (30, 1)


def test_votes_at_temperature_0_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"votes: at endpoint\.temperature 0 all votes are one"):
        config(votes=3)


# --- criteria that the model writes ----------------------------------------------------------------------------


def entry(name: str, kind: str, better: str, by: int) -> dict[str, Any]:
    return {"text": f"About {name}.", "type": kind, **verdicts(**{name: (better, by)})["criteria"][0]}


def writes_for_the_pair(texts: Sequence[str]) -> dict[str, Any]:
    given = deeper_is_longer(["", "a", "a"])["criteria"]
    own = [entry("why", "core", "A", 2), entry("short", "important", "B", 1), entry("kind", "highlight", "same", 0)]
    return {"intent": "to know", "criteria": [*given, *own]}


async def test_criteria_from_the_pair() -> None:
    judge, completer = judge_of(writes_for_the_pair, criteria_from="pair")
    said = await judge.compare(PROMPT, Candidate("a", "x"), Candidate("b", "y"))
    # depth 5 and style 1 of the rubric are level; of its own 5 * 1 - 2 * 0.5 + 0, over 5 + 1 + 5 + 2 + 1.
    assert said.value == pytest.approx(4 / 14)
    assert said.criteria == {"facts": 0.0, "depth": 0.0, "style": 0.0, "core": 1.0, "important": -0.5, "highlight": 0.0}
    assert "Prefer criteria about what the task needs" in text_of(completer.asked[0].messages)
    judge, _ = judge_of(completer.script, criteria_from="pair", min_criteria=4)
    with pytest.raises(JudgeFailure, match="4 to 8 of your own, got 3"):
        await judge.compare(PROMPT, Candidate("a", "x"), Candidate("b", "y"))


WRITTEN = {
    "intent": "to know",
    "criteria": [{"id": name, "text": f"About {name}.", "type": "core"} for name in ("why", "how", "what")],
}


def writes_then_compares(texts: Sequence[str]) -> dict[str, Any]:
    """Written criteria come as data, last; all of them are won by the longer answer."""
    if "- why (core" not in texts[-1]:
        return WRITTEN
    judged = deeper_is_longer(texts[:-1])
    depth = judged["criteria"][1]
    return {"criteria": judged["criteria"] + [{**depth, "id": name} for name in ("why", "how", "what")]}


async def test_criteria_are_written_once_per_prompt_for_all_who_ask_at_once() -> None:
    judge, completer = judge_of(writes_then_compares, criteria_from="prompt")
    pairs = [(Candidate(str(i), "x" * i), Candidate(str(i + 1), "x" * (i + 1))) for i in range(5)]
    said = await asyncio.gather(*(judge.compare(PROMPT, *pair) for pair in pairs))
    assert [verdict.value for verdict in said] == [pytest.approx(-20 / 21)] * 5  # style, 1 of 21, is level
    assert said[0].criteria.keys() == {"facts", "depth", "style", "why", "how", "what"}
    assert len(completer.asked) == 6
    assert sum(verdict.tokens_in for verdict in said) == 60  # Whoever had to write them paid for it.
    await judge.compare(Prompt("p2", "Another."), *pairs[0])
    assert len(completer.asked) == 8


async def test_written_criteria_are_data_and_no_words_of_ours() -> None:
    judge, completer = judge_of(writes_then_compares, criteria_from="prompt")
    await judge.compare(PROMPT, Candidate("a", "x"), Candidate("b", "y"))
    comparison = completer.asked[1].messages
    spans = [span for message in comparison for span in message.spans]
    assert [span.is_data for span in spans if "About why." in span.text] == [True]


async def test_a_failed_writing_is_a_missing_verdict_and_the_next_call_tries_again() -> None:
    replies: list[Any] = ["nonsense", WRITTEN]

    def script(texts: Sequence[str]) -> dict[str, Any]:
        return writes_then_compares(texts) if "- why (core" in texts[-1] else replies.pop(0)

    judge, completer = judge_of(script, criteria_from="prompt")
    pair = (Candidate("a", "x"), Candidate("b", "yy"))
    said = await asyncio.gather(judge.compare(PROMPT, *pair), judge.compare(PROMPT, *pair), return_exceptions=True)
    assert isinstance(said[0], JudgeFailure)
    assert not isinstance(said[1], BaseException)
    assert [asked.seed for asked in completer.asked] == [0, 1, 0]


async def test_a_store_outlives_the_judge_and_keys_tell_settings_apart() -> None:
    store = MemoryStore()
    pair = (Candidate("a", "x"), Candidate("b", "yy"))
    for keys, calls in (({}, 2), ({}, 1), ({"guidance": "Other."}, 2), ({"max_criteria": 9}, 2)):
        judge, completer = judge_of(writes_then_compares, store, criteria_from="prompt", **keys)
        await judge.compare(PROMPT, *pair)
        assert len(completer.asked) == calls, keys


async def test_it_wants_to_meet_a_group_once_per_prompt() -> None:
    judge, completer = judge_of(writes_then_compares, criteria_from="prompt")
    assert isinstance(judge, Acquainted)
    assert await judge.wants_members(PROMPT)
    judge.meet(PROMPT, [Candidate(name, name * 3) for name in "bmw"])
    assert not await judge.wants_members(PROMPT)
    await judge.compare(PROMPT, Candidate("a", "x"), Candidate("b", "y"))
    assert completer.asked[0].texts == [PROMPT.text, "bbb", "mmm", "www"]
    assert not await judge.wants_members(PROMPT)
    judge, _ = judge_of(deeper_is_longer)
    assert isinstance(judge, Acquainted)
    assert not await judge.wants_members(PROMPT)


async def test_prompts_without_an_id_are_told_apart_by_their_text() -> None:
    judge, completer = judge_of(writes_then_compares, criteria_from="prompt")
    assert isinstance(judge, Acquainted)
    one, two = Prompt("", "Task one."), Prompt("", "Task two.")
    judge.meet(one, [Candidate(name, f"one {name}") for name in "abc"])
    assert await judge.wants_members(two)
    await judge.compare(two, Candidate("a", "x"), Candidate("b", "y"))
    judge.meet(two, [Candidate(name, f"two {name}") for name in "abc"])
    await judge.compare(one, Candidate("a", "x"), Candidate("b", "y"))
    written = [asked.texts for asked in completer.asked if "- why (core" not in asked.texts[-1]]
    assert written == [["Task two.", "x", "y"], ["Task one.", "one a", "one b", "one c"]]


# --- in the arena -----------------------------------------------------------------------------------------------


def length_prior(prompt: Prompt, candidate: Candidate) -> float:
    return float(len(candidate.text))


async def play(judge: Judge, texts: Sequence[str], **keys: Any):
    rewards = TournamentRewards(judge=config(), calls=CallLimits(backoff_s=0.0), **keys)
    arena = Arena(rewards, judge, prior_scorer=length_prior)
    key = GroupKey("g")
    await arena.open(key, PROMPT, len(texts))
    for index, text in enumerate(texts):
        await arena.add(key, index, Candidate(str(index), text))
        await asyncio.sleep(0)
    return key, (await arena.scores())[key]


async def test_a_group_by_criterion() -> None:
    judge, _ = judge_of(deeper_is_longer)
    texts = ["long, false answer", "middling", "short"]
    key, score = await play(judge, texts)
    assert [round(rate, 6) if rate is not None else None for rate in score.per_criterion["depth"]] == [1.0, 0.5, 0.0]
    assert score.per_criterion["facts"] == [0.0, 0.75, 0.75]
    assert score.per_criterion["style"] == [0.5, 0.5, 0.5]
    rewards = [reward for reward in score.rewards if reward is not None]
    assert rewards[0] == min(rewards)  # The veto outweighs depth.
    rows = match_rows(key, PROMPT, texts, score)
    assert json.loads(rows[0]["criteria"]) == dict(score.matches[0].calls[0].verdict.criteria)


async def test_the_arena_introduces_best_middle_and_worst_before_the_first_match() -> None:
    judge, completer = judge_of(writes_then_compares, criteria_from="prompt")
    _, score = await play(judge, ["xx", "xxxxx", "x", "xxx", "xxxx"])
    assert completer.asked[0].texts == [PROMPT.text, "xxxxx", "xxx", "x"]
    assert len(completer.asked) == 1 + 20
    assert score.num_failed == 0


async def test_writing_is_a_call_of_the_budget() -> None:
    judge, completer = judge_of(writes_then_compares, criteria_from="prompt")
    rewards = TournamentRewards(judge=config(), budget=CallBudget(calls_per_step=8, calls_per_run=16))
    arena = Arena(rewards, judge, prior_scorer=length_prior, groups_per_step=2)
    for number in range(2):
        key = GroupKey(str(number))
        await arena.open(key, Prompt(f"p{number}", f"Task {number}."), 3)
        for index in range(3):
            await arena.add(key, index, Candidate(str(index), "x" * (index + 1)))
        await arena.close(key)
    scores = await arena.scores()
    # Each has a share of 4: one call writes, and of the other 3 a match takes 2, in both orders. The 2 that are left
    # are handed on to one of them.
    assert sorted(score.num_calls for score in scores.values()) == [2, 4]
    assert len(completer.asked) == 8
    calls = [call for score in scores.values() for match in score.matches for call in match.calls]
    assert sum(call.verdict.written for call in calls) == 2
    # 8 of the run's are left; the criteria of p0 are there, so that no call is kept back for writing.
    key = GroupKey("again")
    await arena.open(key, Prompt("p0", "Task 0."), 3)
    for index in range(3):
        await arena.add(key, index, Candidate(str(index), "y" * (index + 1)))
    await arena.close(key)
    assert [score.num_calls for score in (await arena.scores()).values()] == [6]
    assert len(completer.asked) == 14
    # 2 are left, and a match that has its criteria written first takes 3.
    with pytest.raises(RunStopped, match="a match takes more than is left"):
        await arena.open(GroupKey("late"), Prompt("p9", "Another."), 3)


async def test_criteria_outlive_the_run_in_the_cache_of_verdicts(tmp_path: Path) -> None:
    pair = (Candidate("a", "x"), Candidate("b", "yy"))
    for calls in (2, 1):
        cache = JudgeCache(tmp_path / "c.sqlite")
        judge, completer = judge_of(writes_then_compares, CachedStore(cache), criteria_from="prompt")
        await judge.compare(PROMPT, *pair)
        await cache.close()
        assert len(completer.asked) == calls


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rubric": Rubric()}, "give at least one criterion"),
        ({"min_criteria": 9}, "is more than max_criteria 8"),
        ({"min_margin": 0.1}, "belongs to `verdict: hard`"),
        ({"rubric": {"criteria": [{"id": "a", "text": "t"}, {"id": "a", "text": "t"}]}}, "two have the id 'a'"),
        ({"rubric": {"criteria": [{"id": "core", "text": "t"}]}}, "the name of a type"),
        ({"rubric": {"criteria": [{"id": "a", "text": "t", "part": "path"}]}}, "say what path and answer count"),
        ({"rubric": {"criteria": [{"id": "a", "text": "t"}], "part_weights": {"answer": 1.0, "path": 1.0}}},
         "no criterion weighs for 'path'"),
        ({"rubric": {"criteria": [{"id": "a", "text": "t", "part": "path"}, {"id": "b", "text": "t"}],
                     "part_weights": {"path": 1.0}}}, "look at 'answer', which has no weight"),
        ({"rubric": {"criteria": [{"id": "a", "text": "t", "type": "fatal", "weight": 2.0}]}}, "is not weighed"),
    ],
)  # fmt: skip
def test_impossible_settings(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RubricJudge.model_validate_json(json.dumps(
            {"kind": "rubric", "endpoint": {"base_url": "http://h/v1", "model": "m"},
             "rubric": json.loads(RUBRIC.model_dump_json()),
             **{name: json.loads(value.model_dump_json()) if isinstance(value, Rubric) else value
                for name, value in keys.items()}}
        ))  # fmt: skip


def test_templates_at_fault(tmp_path) -> None:
    (tmp_path / "no_criteria.md").write_text("# user\n{prompt}\n\n{label}: {answer}\n")
    (tmp_path / "begun.md").write_text("# user\n{prompt} {criteria}\n\n{label}: {answer}\n# assistant\nSure")
    with pytest.raises(UserError, match="leave `# assistant` out"):
        build_judge(config(template=str(tmp_path / "begun.md")), completer=Scripted(deeper_is_longer))
    with pytest.raises(UserError, match=r"\{criteria\} is missing"):
        build_judge(
            config(template=str(tmp_path / "no_criteria.md"), criteria_from="prompt"),
            completer=Scripted(str),  # pyright: ignore
        )
