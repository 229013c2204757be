"""The chat judge: what it asks, how strictly it reads, and how votes become one verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewards.endpoint_config import EndpointConfig
from rewards.errors import JudgeFailure, UserError
from rewards.json_reply import last_object
from rewards.judge_config import ChatJudge
from rewards.judges import build_judge
from rewards.judges.chat import MAX_REASON, Chat
from rewards.types import Candidate, Completion, Prompt, Verdict
from tests.fakes.completers import Asked, FakeCompleter, longer_is_better

ENDPOINT = EndpointConfig(base_url="http://judge/v1", model="m", temperature=1.0)
PROMPT = Prompt("p", "Write.")


def judge(completer: FakeCompleter, **keys: Any) -> Chat:
    made = build_judge(ChatJudge(kind="chat", endpoint=ENDPOINT, **keys), completer=completer, seed=3)
    assert isinstance(made, Chat)
    return made


def saying(*replies: str | Completion | JudgeFailure) -> FakeCompleter:
    """Says one after the other."""
    left = iter(replies)
    return FakeCompleter(lambda asked: next(left))


async def compare(completer: FakeCompleter, **keys: Any) -> Verdict:
    return await judge(completer, **keys).compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))


async def places(completer: FakeCompleter, count: int = 3, **keys: Any) -> tuple[int, ...]:
    candidates = [Candidate(str(number), "x" * number) for number in range(count)]
    return (await judge(completer, **keys).rank(PROMPT, candidates)).places


def winner(said: str) -> str:
    return json.dumps({"reason": f"because {said}", "winner": said})


# --- one vote ---------------------------------------------------------------------------------------------------


async def test_what_is_asked() -> None:
    completer = FakeCompleter(longer_is_better)
    await compare(completer, criteria="Which is longer?")
    (asked,) = completer.asked
    assert asked.texts == ["Write.", "one", "two"]
    assert asked.messages[0].role == "system"
    assert "Which is longer?" in asked.messages[1].text
    assert '{"reason": "why, in at most three sentences", "winner": "A, B or tie"}' in asked.messages[1].text
    assert asked.schema is not None
    assert asked.schema["required"] == ["reason", "winner"]
    assert asked.schema["properties"]["winner"]["enum"] == ["A", "B", "tie"]


@pytest.mark.parametrize(
    ("reply", "said", "kind", "value"),
    [
        ("winner", winner("A"), "hard", 1.0),
        ("winner", "I think so.\n```json\n" + winner("B") + "\n```\n", "hard", 0.0),
        ("winner", winner("Tie"), "hard", 0.5),
        ("winner", '{"winner": "A"} is tempting, but ' + winner("B"), "hard", 0.0),
        ("probability", '{"reason": "", "probability": 0.75}', "probability", 0.75),
        ("probability", '{"probability": 1}', "probability", 1.0),
        ("scores", '{"score_A": 7.5, "score_B": 9, "reason": "x"}', "score", -1.5),
    ],
)
async def test_replies_that_are_read(reply: str, said: str, kind: str, value: float) -> None:
    completer = saying(said)
    made = judge(completer, reply=reply)
    verdict = await made.compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))
    assert (made.kind, verdict.value) == (kind, value)
    assert (verdict.tokens_in, verdict.tokens_out, verdict.cost) == (10, 2, 0.5)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("winner", "A"),
        ("winner", winner("C")),
        ("winner", winner("A or B")),
        ("winner", '{"winner": 1}'),
        ("winner", '{"reason": "no verdict"}'),
        ("winner", '{"reason": "cut off in the mi'),
        ("winner", winner("A") + " No, wait: B."),
        ("winner", '{"winner": "A", "winner": "B"}'),
        ("winner", '[{"winner": "A"}]'),
        ("winner", ""),
        ("winner", "{" * 3000),
        ("probability", '{"probability": 1.5}'),
        ("probability", '{"probability": NaN}'),
        ("probability", '{"probability": "0.5"}'),
        ("probability", '{"probability": true}'),
        ("scores", '{"score_A": 7}'),
        ("scores", '{"score_A": 7, "score_B": null}'),
        ("scores", '{"score_A": 1e999, "score_B": 1}'),
        ("scores", f'{{"score_A": 1{"0" * 400}, "score_B": 1}}'),
    ],
)
async def test_replies_that_are_no_verdict(reply: str, said: str) -> None:
    with pytest.raises(JudgeFailure) as caught:
        await compare(saying(said), reply=reply)
    assert (caught.value.cause, caught.value.retryable) == ("bad_reply", True)
    assert len(caught.value.detail) < 300


async def test_a_reply_that_ran_into_its_limit_is_none() -> None:
    with pytest.raises(JudgeFailure, match="raise it"):
        await compare(saying(Completion(winner("A"), is_cut=True)))


async def test_the_reason_is_kept_and_bounded() -> None:
    assert (await compare(saying(winner("A")))).reason == "because A"
    assert (await compare(saying('I like\n A best.\n{"winner": "A"}'))).reason == "I like A best."
    long = await compare(saying(json.dumps({"reason": "x" * 9999, "winner": "A"})))
    assert len(long.reason) == MAX_REASON


@given(text=st.text())
def test_no_text_is_read_as_a_verdict_by_accident(text: str) -> None:
    """Whatever stands before it, the object that ends the reply is the one that is read; text after it voids it."""
    found, before = last_object(Completion(text + ' {"winner": "A"}')) if "{" not in text else ({"winner": "A"}, text)
    assert found == {"winner": "A"}
    assert before.startswith(text)
    with pytest.raises(JudgeFailure):
        last_object(Completion('{"winner": "A"} because ' + text.replace("{", "")))


# --- several votes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("votes", "mean", "majority"),
    [("AAB", 2 / 3, 1.0), ("ABt", 0.5, 0.5), ("Btt", 1 / 3, 0.0), ("AB", 0.5, 0.5), ("ttA", 2 / 3, 1.0)],
)
async def test_votes_by_hand(votes: str, mean: float, majority: float) -> None:
    said = [winner({"t": "tie"}.get(vote, vote)) for vote in votes]
    made = judge(saying(*said), votes=len(votes))
    assert made.kind == "probability"
    verdict = await made.compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))
    assert verdict.value == pytest.approx(mean)
    assert verdict.tokens_in == 10 * len(votes)
    made = judge(saying(*said), votes=len(votes), merge_votes="majority")
    assert made.kind == "hard"
    assert (await made.compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))).value == majority


async def test_scores_and_probabilities_are_averaged_or_counted() -> None:
    scores = [json.dumps({"score_A": a, "score_B": 0}) for a in (9, -1, -2)]
    assert (await compare(saying(*scores), reply="scores", votes=3)).value == pytest.approx(2.0)
    assert (await compare(saying(*scores), reply="scores", votes=3, merge_votes="majority")).value == 0.0
    said = [json.dumps({"probability": p}) for p in (0.9, 0.4, 0.4)]
    assert (await compare(saying(*said), reply="probability", votes=3)).value == pytest.approx(1.7 / 3)


async def test_the_reason_is_one_of_those_who_agree() -> None:
    assert (await compare(saying(winner("A"), winner("B"), winner("B")), votes=3)).reason == "because B"


async def test_failed_votes_are_missing_and_bad_ones_cost() -> None:
    verdict = await compare(saying(winner("A"), JudgeFailure("server_error"), "nonsense"), votes=3)
    assert (verdict.value, verdict.tokens_in, verdict.cost) == (1.0, 20, 1.0)


async def test_empty_votes_cost_too() -> None:
    def empty() -> JudgeFailure:
        return JudgeFailure("empty", tokens_in=1000, tokens_out=512, cost=0.25)

    verdict = await compare(saying(winner("A"), empty()), votes=2)
    assert (verdict.tokens_in, verdict.tokens_out, verdict.cost) == (1010, 514, 0.75)
    with pytest.raises(JudgeFailure) as caught:
        await compare(saying(empty(), empty(), JudgeFailure("timeout")), votes=3)
    assert (caught.value.tokens_in, caught.value.tokens_out, caught.value.cost) == (2000, 1024, 0.5)


async def test_when_all_votes_fail_the_call_fails_as_the_most_patient_asks() -> None:
    failures = (JudgeFailure("refused", retryable=False), JudgeFailure("rate_limit", retry_after_s=9.0))
    with pytest.raises(JudgeFailure) as caught:
        await compare(saying(*failures, JudgeFailure("server_error")), votes=3)
    assert (caught.value.cause, caught.value.retry_after_s) == ("rate_limit", 9.0)


async def test_a_bug_in_one_vote_surfaces() -> None:
    def reply(asked: Asked) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await compare(FakeCompleter(reply), votes=2)


async def test_votes_have_seeds_of_their_own_and_a_bad_question_gets_new_ones() -> None:
    completer = FakeCompleter(lambda asked: "nonsense" if asked.seed < 4 else winner("A"))
    made = judge(completer, votes=2)

    async def ask() -> float | None:
        return (await made.compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))).value

    for _ in range(2):
        with pytest.raises(JudgeFailure):
            await ask()
    assert await ask() == 1.0
    assert [asked.seed for asked in completer.asked] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(JudgeFailure):
        await ask()  # answered once, it starts anew: equal calls get equal seeds


async def test_a_question_that_was_not_answered_at_all_keeps_its_seeds() -> None:
    completer = saying(JudgeFailure("server_error"), winner("A"))
    made = judge(completer)
    with pytest.raises(JudgeFailure):
        await made.compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))
    await made.compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))
    assert [asked.seed for asked in completer.asked] == [0, 0]


async def test_one_vote_has_no_majority() -> None:
    made = judge(saying('{"score_A": 9, "score_B": 2}'), reply="scores", merge_votes="majority")
    assert made.kind == "score"
    assert (await made.compare(PROMPT, Candidate("0", "one"), Candidate("1", "two"))).value == 7.0


# --- several answers --------------------------------------------------------------------------------------------


async def test_rankings() -> None:
    assert await places(FakeCompleter(longer_is_better)) == (2, 1, 0)
    assert await places(saying('{"ranking": [["B"], ["A", "C"]]}')) == (1, 0, 1)
    assert await places(saying('{"ranking": ["C", "A", "B"]}')) == (1, 2, 0)


async def test_ranking_votes_are_merged_by_their_places() -> None:
    """A: 0 + 0 + 1.5 = 1.5, B: 1 + 2 + 0 = 3, C: 2 + 1 + 1.5 = 4.5."""
    said = ['{"ranking": ["A", "B", "C"]}', '{"ranking": ["A", "C", "B"]}', '{"ranking": [["B"], ["A", "C"]]}']
    assert await places(saying(*said), votes=3) == (0, 1, 2)


@pytest.mark.parametrize(
    "said", ['["A", "B"]', '["A", "B", "D"]', '["A", "B", "C", "A"]', '[["A", "B", "C"], ["A"]]', '"ABC"', "[1]"]
)
async def test_rankings_that_are_none(said: str) -> None:
    with pytest.raises(JudgeFailure, match="ranking"):
        await places(saying(f'{{"ranking": {said}}}'))


# --- configs, templates, end ------------------------------------------------------------------------------------


def test_votes_that_cannot_differ_are_refused() -> None:
    with pytest.raises(ValidationError, match="temperature 0"):
        ChatJudge(kind="chat", endpoint=ENDPOINT.model_copy(update={"temperature": 0.0}), votes=2)


def test_templates_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("# user\n{prompt} {first} {second}\n# assistant\nWell,")
    with pytest.raises(UserError, match=r"leave `# assistant` out"):
        build_judge(
            ChatJudge(kind="chat", endpoint=ENDPOINT, template="mine.md"),
            completer=FakeCompleter(longer_is_better),
            base_dir=tmp_path,
        )


async def test_the_judge_closes_its_completer() -> None:
    completer = FakeCompleter(longer_is_better)
    await judge(completer).close()
    assert completer.num_closed == 1


async def test_a_bad_reply_is_paid_for() -> None:
    with pytest.raises(JudgeFailure, match="bad_reply") as caught:
        await compare(saying(Completion("no verdict", 7, 2, 0.5), Completion("none", 7, 3, 0.25)), votes=2)
    assert (caught.value.tokens_in, caught.value.tokens_out, caught.value.cost) == (14, 5, 0.75)
