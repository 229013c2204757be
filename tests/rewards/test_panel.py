"""Panels: who is asked, what the log keeps, how reputations move weights, and how they are carried."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from rewards.arena import PANEL, Arena
from rewards.calibration import Calibration, KnownPair, load_pairs
from rewards.config import CallBudget, CallLimits, TournamentRewards
from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import PanelJudge, PanelMember, PythonJudge, Reputation
from rewards.judges.panel import Panel, RankingPanel, build_panel
from rewards.reputation import Standing, agreement, learned, reputed_weights
from rewards.topology_config import KWise
from rewards.types import (
    Call,
    Candidate,
    GroupKey,
    GroupScore,
    Judge,
    ListJudge,
    Match,
    MatchLog,
    Pairing,
    Places,
    Prompt,
    Verdict,
    VerdictKind,
)

KEY, PROMPT = GroupKey("g"), Prompt("p", "task")
Say = Callable[[str, str], float | None]
PYTHON = PythonJudge(kind="python", target="a:b")


def lower_wins(first: str, second: str) -> float:
    return float(int(first) < int(second))


def higher_wins(first: str, second: str) -> float:
    return float(int(first) > int(second))


class Fake:
    def __init__(
        self, name: str, say: Say = lower_wins, *, kind: VerdictKind = "hard", symmetric: bool = False
    ) -> None:
        self.name, self.symmetric, self._say = name, symmetric, say
        self.kind: VerdictKind = kind
        self.asked: list[tuple[str, str]] = []
        self.num_closed = 0

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        self.asked.append((first.id, second.id))
        value = self._say(first.text, second.text)
        if value is None:
            raise JudgeFailure("timeout", retryable=False)
        return Verdict(value, tokens_in=3)

    async def close(self) -> None:
        self.num_closed += 1


class Ranker(Fake):
    async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
        if self._say("0", "1") is None:
            raise JudgeFailure("timeout", retryable=False)
        numbers = [int(candidate.text) for candidate in candidates]
        sign = 1 if self._say("0", "1") else -1
        return Places(tuple(sum(sign * other < sign * own for other in numbers) for own in numbers))


def panel(
    *judges: Fake,
    weights: Sequence[float] | None = None,
    reputation: Reputation | None = None,
) -> Panel:
    members = tuple(PanelMember(judge=PYTHON, weight=weight) for weight in weights or [1.0] * len(judges))
    return build_panel(PanelJudge(kind="panel", members=members, reputation=reputation), judges)


def arena(judge: Judge, *, calibration: Calibration | None = None, **keys: object) -> Arena:
    carry_prior = bool(keys.pop("carry_prior", True))
    config = TournamentRewards.model_validate({"judge": PYTHON, "calls": CallLimits(backoff_s=0.0), **keys})
    return Arena(config, judge, carry_prior=carry_prior, calibration=calibration)


async def play(sink: Arena, size: int = 4, key: GroupKey = KEY) -> GroupScore:
    await sink.open(key, PROMPT, size)
    for index in range(size):
        await sink.add(key, index, Candidate(str(index), str(index)))
    return (await sink.scores())[key]


# --- who is asked ----------------------------------------------------------------------------------------------


async def test_every_member_is_asked_and_the_log_keeps_who_said_what() -> None:
    judges = Fake("one"), Fake("two", higher_wins)
    score = await play(arena(panel(*judges, weights=(3.0, 0.5))), 3)
    for judge in judges:
        assert sorted(judge.asked) == sorted((str(i), str(j)) for i, j in itertools.permutations(range(3), 2))
    assert score.num_calls == 12
    assert {(call.judge, call.weight) for match in score.matches for call in match.calls} == {
        ("one", 3.0),
        ("two", 0.5),
    }
    rewards = [reward for reward in score.rewards if reward is not None]
    assert rewards == sorted(rewards, reverse=True), "three votes against a half"


async def test_a_member_that_cannot_depend_on_the_order_is_asked_once_seated_by_lot() -> None:
    alone, other = Fake("alone", symmetric=True), Fake("other")
    await play(arena(panel(alone, other)), 8)
    assert (len(alone.asked), len(other.asked)) == (28, 56)
    assert 5 < sum(int(first) < int(second) for first, second in alone.asked) < 23
    both = Fake("a", symmetric=True), Fake("b", symmetric=True)
    made = panel(*both)
    await play(arena(made), 4)
    assert made.symmetric
    assert all(int(first) < int(second) for first, second in both[0].asked)


async def test_a_member_that_fails_is_missing_and_nobody_else() -> None:
    score = await play(arena(panel(Fake("well"), Fake("ill", lambda first, second: None))))
    assert score.num_failed == 12
    assert score.failures == {"timeout": 12}
    assert score.num_scored == 4


async def test_scores_count_by_their_sign() -> None:
    made = panel(Fake("score", lambda first, second: 0.01 * (int(second) - int(first)), kind="score"), Fake("hard"))
    assert made.kind == "hard"
    score = await play(arena(made), 3)
    values = {call.verdict.value for match in score.matches for call in match.calls if call.judge == "score"}
    assert values == {0.0, 1.0}
    assert "score 0.01" in {call.verdict.reason for match in score.matches for call in match.calls}


async def test_both_if_close_goes_by_member() -> None:
    sure, unsure = Fake("sure", lambda a, b: 0.9, kind="probability"), Fake("unsure", lambda a, b: 0.5)
    made = panel(sure, unsure)
    assert made.kind == "probability"
    await play(arena(made, orders="both_if_close"), 3)
    assert (len(sure.asked), len(unsure.asked)) == (3, 6)


async def test_slates() -> None:
    made = panel(Ranker("one"), Ranker("two", higher_wins), weights=(2.0, 1.0))
    assert isinstance(made, RankingPanel)
    score = await play(arena(made, topology=KWise(kind="k_wise")), 4)
    assert {(ranking.judge, ranking.weight) for ranking in score.rankings} == {("one", 2.0), ("two", 1.0)}
    assert score.rewards == sorted(score.rewards, reverse=True)  # pyright: ignore[reportArgumentType]
    assert not isinstance(panel(Ranker("one"), Fake("two")), ListJudge)


async def test_outside_an_arena_there_is_one_merged_verdict() -> None:
    zero, one = Candidate("0", "0"), Candidate("1", "1")
    made = panel(Fake("a"), Fake("b"), Fake("c", higher_wins), weights=(1.0, 1.0, 1.5))
    verdict = await made.compare(PROMPT, zero, one)
    assert (verdict.value, verdict.tokens_in, verdict.reason) == (1.0, 9, "a 1; b 1; c 0")
    tied = panel(Fake("a"), Fake("b", higher_wins))
    assert (await tied.compare(PROMPT, zero, one)).value == 0.5
    mean = panel(Fake("a", lambda x, y: 0.8, kind="probability"), Fake("b", higher_wins), weights=(3.0, 1.0))
    assert (await mean.compare(PROMPT, zero, one)).value == pytest.approx(0.6)
    silent = Fake("s", lambda x, y: None)
    assert (await panel(Fake("a"), silent).compare(PROMPT, zero, one)).value == 1.0
    with pytest.raises(JudgeFailure):
        await panel(silent, Fake("t", lambda x, y: None)).compare(PROMPT, zero, one)
    ranked = panel(Ranker("a"), Ranker("b", higher_wins), weights=(1.0, 2.0))
    assert isinstance(ranked, RankingPanel)
    assert (await ranked.rank(PROMPT, [zero, one])).places == (1, 0)


def test_an_aggregator_without_weights_is_refused_for_weighted_panels() -> None:
    def config(**keys: object) -> None:
        members = [{"judge": PYTHON, "weight": keys.pop("weight", 1.0)}, {"judge": PYTHON, "name": "b"}]
        TournamentRewards.model_validate(
            {"judge": {"kind": "panel", "members": tuple(members), **keys}, "aggregator": {"kind": "trueskill"}}
        )

    config()
    for keys in ({"weight": 2.0}, {"reputation": {}}):
        with pytest.raises(ValidationError, match="trueskill counts every verdict once"):
            config(**keys)


async def test_names_differ_and_members_are_closed() -> None:
    with pytest.raises(UserError, match="two are called 'one'"):
        panel(Fake("one"), Fake("one"))
    judges = Fake("one"), Fake("two")
    await panel(*judges).close()
    assert [judge.num_closed for judge in judges] == [1, 1]


# --- reputations -----------------------------------------------------------------------------------------------

CONFIG = Reputation(decay=0.5, floor=0.1, prior_verdicts=10.0)


def log_of(**say: Say) -> MatchLog:
    """Everybody about all pairs of three, one order."""
    matches = []
    for a, b in itertools.combinations(range(3), 2):
        calls = [Call(a, b, Verdict(float(said(str(a), str(b)) or 0.0)), name) for name, said in say.items()]
        matches.append(Match(Pairing(a, b), tuple(calls)))
    return MatchLog(3, "hard", tuple(matches))


def test_agreement_is_with_what_the_others_say() -> None:
    log = log_of(one=lower_wins, two=lower_wins, odd=higher_wins)
    assert [lean > 0 for lean in agreement([log], "one")] == []  # the others cancel out: nothing is known
    assert [lean > 0 for lean in agreement([log], "odd")] == [False] * 3
    log = log_of(one=lower_wins, two=lower_wins, three=lower_wins, odd=higher_wins)
    assert [lean > 0 for lean in agreement([log], "one")] == [True] * 3
    assert list(agreement([MatchLog(3, "hard", ())], "one")) == []


def test_standings_and_weights_by_hand() -> None:
    """odd is wrong 3 times of 3: r = (10 + 0) / (10 + 3) = 10/13, 2 r - 1 = 7/13; the other three have 1.

    The sum stays 4: each is scaled by 4 / (3 + 7/13) = 52/46. Next step, nothing known: counts halve.
    """
    log = log_of(one=lower_wins, two=lower_wins, three=lower_wins, odd=higher_wins)
    names = ["one", "two", "three", "odd"]
    after = learned({}, [log], [], names, CONFIG)
    assert after["odd"] == Standing(0.0, 3.0)
    assert after["one"] == Standing(3.0, 3.0)
    weights = reputed_weights(dict.fromkeys(names, 1.0), after, CONFIG)
    assert weights["odd"] == pytest.approx(7 / 13 * 52 / 46)
    assert weights["one"] == pytest.approx(52 / 46)
    assert sum(weights.values()) == pytest.approx(4.0)
    again = learned(after, [], [("odd", True), ("one", False)], names, CONFIG)
    assert again["odd"] == Standing(1.0, 2.5)
    assert again["one"] == Standing(1.5, 2.5)


def test_weights_are_bounded() -> None:
    base = {"good": 1.0, "bad": 1.0}
    weights = reputed_weights(base, {"bad": Standing(0.0, 1e9)}, CONFIG)
    assert weights["bad"] / weights["good"] == pytest.approx(CONFIG.floor)


async def test_a_coin_among_judges_loses_its_weight_and_the_state_is_carried_as_json() -> None:
    rng = np.random.default_rng(0)

    def coin(first: str, second: str) -> float:
        return float(rng.integers(2))

    def made() -> Panel:
        return panel(Fake("a"), Fake("b"), Fake("coin", coin), reputation=Reputation())

    first = made()
    sink = arena(first)
    assert sink.prior == {PANEL: {}}
    for step in range(12):
        await play(sink, 6, GroupKey(f"g{step}"))
    assert first.weights["coin"] < 0.5 * first.weights["a"]
    assert sum(first.weights.values()) == pytest.approx(3.0)
    stored = json.loads(json.dumps(sink.prior))
    assert set(stored) > {PANEL}
    second = made()
    resumed = arena(second)
    resumed.prior = stored
    assert second.weights == first.weights
    assert resumed.prior == sink.prior
    score = await play(resumed, 3)
    assert {call.weight for match in score.matches for call in match.calls} == set(first.weights.values())


async def test_evaluation_uses_reputations_and_teaches_none() -> None:
    made = panel(Fake("a"), Fake("b"), Fake("c", higher_wins), reputation=Reputation())
    made.state = {"c": {"right": 0.0, "all": 100.0}}
    before = made.state
    score = await play(arena(made, carry_prior=False))
    assert made.state == before
    assert {call.weight for match in score.matches for call in match.calls} == set(made.weights.values())


# --- calibration -----------------------------------------------------------------------------------------------

PAIRS = tuple(KnownPair(Prompt(f"k{n}", "?"), Candidate(f"{n}+", "0"), Candidate(f"{n}-", "1")) for n in range(5))


async def test_known_pairs_are_asked_among_the_matches_and_are_in_no_log() -> None:
    good, bad = Fake("good"), Fake("bad", higher_wins)
    made = panel(good, bad, reputation=Reputation())
    score = await play(arena(made, calibration=Calibration(PAIRS, 2.0)), 3)
    known = {candidate.id for pair in PAIRS for candidate in (pair.better, pair.worse)}
    assert sum(first in known for first, _ in good.asked) == 2
    assert (score.num_calls, score.num_calls_about_judge) == (12, 4)
    assert sorted((one.judge, one.result) for one in score.known_answers) == [("bad", 0.0)] * 2 + [("good", 1.0)] * 2
    # Both were wrong on none of the matches that the other decides against them, three each; and on the known pairs:
    assert made.state == {"good": {"right": 2.0, "all": 5.0}, "bad": {"right": 0.0, "all": 5.0}}
    assert made.weights["good"] > made.weights["bad"]


async def test_a_judge_alone_is_asked_known_pairs_too_and_a_failure_is_no_answer() -> None:
    judge = Fake("alone", lambda first, second: None if first == "0" and second == "1" else 0.5)
    score = await play(arena(judge, calibration=Calibration(PAIRS, 9.0), orders="first"), 2)
    results = [one.result for one in score.known_answers]
    assert len(results) == 9
    assert set(results) == {0.5, None}, "ties where the worse one is first, failures where the better one is"


async def test_known_pairs_are_paid_out_of_the_steps_budget() -> None:
    judge = Fake("alone")
    config = TournamentRewards(judge=PYTHON, budget=CallBudget(calls_per_step=20), calls=CallLimits(backoff_s=0.0))
    sink = Arena(config, judge, groups_per_step=2, calibration=Calibration(PAIRS, 3.0))
    keys = [GroupKey("g"), GroupKey("h")]
    for key in keys:
        await sink.open(key, PROMPT, 4)
        for index in range(4):
            await sink.add(key, index, Candidate(str(index), str(index)))
    scores = await sink.scores()
    assert [len(scores[key].known_answers) for key in keys] == [3, 3]
    assert sum(scores[key].num_calls for key in keys) == 14
    assert len(judge.asked) == 20
    assert not sink.refill(1)


async def test_a_bug_in_a_known_pair_surfaces_and_nothing_is_left() -> None:
    def breaks(first: str, second: str) -> float:
        raise ZeroDivisionError

    sink = arena(panel(Fake("a"), Fake("b", breaks), reputation=Reputation()), calibration=Calibration(PAIRS, 1.0))
    await sink.open(KEY, PROMPT, 2)
    with pytest.raises(ZeroDivisionError):
        await sink.scores()


def test_draws_follow_from_the_group_and_meet_their_share() -> None:
    calibration = Calibration(PAIRS, 0.25)
    drawn = [calibration.draw(GroupKey(str(n)), seed=1) for n in range(400)]
    assert drawn == [calibration.draw(GroupKey(str(n)), seed=1) for n in range(400)]
    assert 60 < sum(map(len, drawn)) < 140
    assert {len(one) for one in drawn} == {0, 1}
    firsts = [better_first for one in drawn for _, better_first in one]
    assert 0.3 < np.mean(firsts) < 0.7
    assert len(Calibration(PAIRS, 3.0).draw(KEY, 0)) == 3


def test_files_of_known_pairs(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('\ufeff{"prompt": "p", "better": "b", "worse": "w"}\n\n')
    (pair,) = load_pairs("pairs.jsonl", tmp_path)
    assert (pair.prompt.text, pair.better.text, pair.worse.text) == ("p", "b", "w")
    (tmp_path / "lines.jsonl").write_text('{"prompt": "p", "better": "b\u2028\u0085c", "worse": "w"}\n')
    assert load_pairs("lines.jsonl", tmp_path)[0].better.text == "b\u2028\u0085c"
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]
    better, worse = ([{"role": "assistant", "content": text}] for text in "bw")
    row = {"prompt": said, "chosen": better, "rejected": worse}
    (tmp_path / "messages.jsonl").write_text(json.dumps(row))
    (pair,) = load_pairs("messages.jsonl", tmp_path)
    assert (pair.prompt.text, pair.better.text, pair.worse.text) == ("p", "b", "w")
    assert pair.prompt.messages == tuple(said)
    for text, fault in (
        (json.dumps(row | {"prompt": []}), "pairs.jsonl:1: needs the texts"),
        (json.dumps(row | {"chosen": said}), "pairs.jsonl:1: needs the texts"),
        (json.dumps(row | {"rejected": [{"role": "assistant", "content": None}]}), "pairs.jsonl:1: needs the texts"),
        ("", "holds no pair"),
        ("{}", "pairs.jsonl:1: needs the texts"),
        ("[1]", "pairs.jsonl:1: needs the texts"),
        ('{"prompt": "p", "better": "b", "worse": "w"}\nx', "pairs.jsonl:2: is no JSON"),
        ("[" * 100_000, "pairs.jsonl:1: is no JSON"),
        ('{"prompt": "p", "better": "\\ud800", "worse": "w"}', "pairs.jsonl:1: .* half of a surrogate pair"),
    ):
        (tmp_path / "pairs.jsonl").write_text(text)
        with pytest.raises(UserError, match=fault):
            load_pairs("pairs.jsonl", tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_pairs("nowhere.jsonl", tmp_path)
