"""Held-out games: who is paired with whom, what the sink is given, and the tally by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from rewards.errors import RunStopped
from rewards.types import Call, Candidate, GroupKey, GroupScore, Match, Pairing, ParsedAnswer, Prompt, Verdict
from rl.config import EvaluationConfig
from rl.heldout import Pair, judge_pairs, judged_alone, pair_answers, tally
from rollouts.types import Group
from tests.rl.fakes import make_group

CONFIG = EvaluationConfig(bootstrap=100)


def answers(lengths: dict[str, list[int | None]], *, version: int = 0) -> list[Group]:
    """A group per prompt id."""
    return [
        make_group(f"v{version}-{prompt_id}", lengths[prompt_id], version=version, prompt_id=prompt_id)
        for prompt_id in lengths
    ]


def pairs_of(before: dict[str, list[int | None]], after: dict[str, list[int | None]]) -> list[Pair]:
    return pair_answers(answers(before), answers(after, version=5))


def won(value: float | None, *, num_calls: int = 1) -> GroupScore:
    """A match whose value is seen from slot 0, the starting model."""
    verdict = Verdict(None, failure="timeout") if value is None else Verdict(value)
    match = Match(Pairing(0, 1), (Call(0, 1, verdict, "j"),))
    return GroupScore(rewards=[None, None], matches=(match,), kind="probability", num_calls=num_calls)


@dataclass
class Recorder:
    events: list[tuple[str, GroupKey, object]] = field(default_factory=list)

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
        self.events.append(("open", key, (prompt.id, num_candidates)))

    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None:
        self.events.append(("add", key, (index, candidate)))

    async def close(self, key: GroupKey) -> None:
        self.events.append(("close", key, None))

    async def scores(self) -> dict[GroupKey, GroupScore]:
        return {key: won(0.0) for kind, key, _ in self.events if kind == "open"}


def test_answers_meet_by_prompt_and_index_and_lost_ones_leave_their_pair_out() -> None:
    pairs = pairs_of({"a": [1, None, 3], "b": [4, 5, 6]}, {"a": [7, 8, None], "b": [None, 9, 10]})
    met = [(pair.group.prompt.id, pair.index, pair.before.num_tokens, pair.after.num_tokens) for pair in pairs]
    assert met == [("a", 0, 1, 7), ("b", 1, 5, 9), ("b", 2, 6, 10)]
    assert len({pair.key for pair in pairs}) == 3


def test_unequal_sets_of_answers_are_a_bug() -> None:
    with pytest.raises(ValueError, match="zip"):
        pairs_of({"a": [1]}, {"a": [1], "b": [1]})
    with pytest.raises(ValueError, match="zip"):
        pairs_of({"a": [1]}, {"a": [1, 2]})
    with pytest.raises(ValueError, match="prompt b stands where the starting model answered a"):
        pairs_of({"a": [1]}, {"b": [1]})


async def test_the_starting_model_sits_in_slot_0_and_judges_see_the_parsed_answer() -> None:
    (pair,) = pairs_of({"a": [2]}, {"a": [3]})
    after = replace(pair.after, text="<plan>\nanswer ", parsed=ParsedAnswer(parts={"answer": "answer"}))
    sink = Recorder()
    scores = await judge_pairs([replace(pair, after=after)], sink)
    assert scores.keys() == {pair.key}
    assert [kind for kind, _, _ in sink.events] == ["open", "add", "add", "close"]
    assert sink.events[0][2] == ("a", 2)
    first, second = sink.events[1][2], sink.events[2][2]
    assert first == (0, Candidate(f"{pair.key}/before", "an answer", 2))
    assert second == (1, Candidate(f"{pair.key}/after", "answer", 3, after.parsed))


def test_the_tally_by_hand() -> None:
    pairs = pairs_of({"a": [2, 4], "b": [6, 8]}, {"a": [10, 20], "b": [30, 40]})
    # a: won and lost = 1/2; b: won and no verdict = 1.
    scores = dict(
        zip([pair.key for pair in pairs], [won(0.1), won(0.9), won(0.2), won(None, num_calls=4)], strict=True)
    )
    games = tally(["a", "b"], pairs, scores, CONFIG, seed=0)
    assert games.outcomes == [1.0, 0.0, 1.0, None]
    assert games.result["win_rate"] == 0.75
    assert (games.result["num_prompts"], games.result["num_unscored"], games.result["num_pairs"]) == (2, 0, 3)
    assert games.result["opponent"] == "starting model"
    assert games.mean_length == {"before": 5.0, "after": 25.0}
    assert games.num_calls == 7
    assert games.metrics["heldout/win_rate"] == 0.75
    low, high = games.result["ci95"]
    assert (games.metrics["heldout/ci95_low"], games.metrics["heldout/ci95_high"]) == (low, high)
    assert low <= 0.75 <= high
    assert (games.metrics["heldout/mean_tokens"], games.metrics["heldout/mean_tokens_before"]) == (25, 5)
    assert games.rows[3] == {
        "prompt_id": "b",
        "index": 1,
        "prompt": "text of b",
        "before": "an answer",
        "after": "an answer",
        "outcome": None,
        "before_tokens": 8,
        "after_tokens": 40,
        "before_gated": False,
        "after_gated": False,
    }
    assert games.pairs is pairs


def test_a_gate_decides_and_is_counted_per_side() -> None:
    pairs = pairs_of({"a": [1, 1, 1, 1]}, {"a": [1, 1, 1, 1]})
    failures = [{}, {"length": (0,)}, {"length": (1,), "copy": (1,)}, {"length": (0, 1)}]
    scores = {pair.key: replace(won(0.0), gate_failures=failed) for pair, failed in zip(pairs, failures, strict=True)}
    games = tally(["a"], pairs, scores, CONFIG, seed=0)
    assert games.outcomes == [1.0, 1.0, 0.0, 0.5]
    assert games.ungated == [True, False, False, False]
    judged = games.result["judged"]
    assert (judged["win_rate"], judged["num_prompts"], judged["num_pairs"]) == (1.0, 1, 1)
    assert games.metrics["heldout/gated_fraction"] == 0.5
    assert games.metrics["heldout/gated_fraction_before"] == 0.5
    assert [(row["before_gated"], row["after_gated"]) for row in games.rows] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_a_prompt_whose_pairs_all_lost_an_answer_is_unscored() -> None:
    pairs = pairs_of({"a": [1, 1], "b": [None, 1], "c": [1, 1]}, {"a": [1, 1], "b": [1, None], "c": [1, 1]})
    scores = {pair.key: won(None if pair.group.prompt.id == "c" else 0.0) for pair in pairs}
    games = tally(["a", "b", "c"], pairs, scores, CONFIG, seed=0)
    assert (games.result["num_prompts"], games.result["num_unscored"]) == (1, 2)
    assert games.result["win_rate"] == 1.0


def test_without_any_outcome_the_run_stops() -> None:
    with pytest.raises(RunStopped, match="no verdict on any of 2 held-out prompts"):
        tally(["a", "b"], [], {}, CONFIG, seed=0)


def test_equal_seeds_give_equal_intervals() -> None:
    names = [f"p{n}" for n in range(20)]
    pairs = pairs_of({name: [1] for name in names}, {name: [1] for name in names})
    scores = {pair.key: won(index % 3 / 2) for index, pair in enumerate(pairs)}
    first, again, other = (tally(names, pairs, scores, CONFIG, seed=seed).result["ci95"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_what_the_judge_alone_decided_leaves_gated_pairs_and_missing_verdicts_out() -> None:
    pairs = pairs_of({"a": [1, 1], "b": [1, 1]}, {"a": [1, 1], "b": [1, 1]})
    outcomes = [1.0, 0.0, None, 0.0]
    judged = judged_alone(pairs, outcomes, [True, True, True, False], CONFIG, seed=0)
    assert judged is not None
    assert (judged["win_rate"], judged["num_prompts"], judged["num_pairs"]) == (0.5, 1, 2)
    assert judged_alone(pairs, outcomes, [False, False, True, False], CONFIG, seed=0) is None


def test_a_metrics_own_values_are_means_of_both_policies() -> None:
    pairs = pairs_of({"a": [2], "b": [2]}, {"a": [2], "b": [2]})
    scores = [
        GroupScore(rewards=[0.0, 1.0], figures={"recall@5": [0.0, 0.5], "items": [None, 4.0]}),
        GroupScore(rewards=[0.5, None], figures={"recall@5": [0.5, None], "items": [None, 2.0]}),
    ]
    games = tally(["a", "b"], pairs, dict(zip([pair.key for pair in pairs], scores, strict=True)), CONFIG, seed=0)
    assert games.result["figures"] == {
        "recall@5": {"before": 0.25, "after": 0.5},
        "reward": {"before": 0.25, "after": 1.0},
    }
    assert (games.metrics["heldout/recall@5"], games.metrics["heldout/recall@5_before"]) == (0.5, 0.25)
    assert "heldout/items" not in games.metrics  # the starting model never has it


def test_a_win_rate_inside_a_pair_is_no_figure() -> None:
    pairs = pairs_of({"a": [2]}, {"a": [2]})
    games = tally(["a"], pairs, {pairs[0].key: replace(won(0.1), rewards=[0.1, 0.9])}, CONFIG, seed=0)
    assert "figures" not in games.result
    assert "heldout/reward" not in games.metrics


def test_criteria_are_followed_and_routed_pairs_are_not_the_judges() -> None:
    pairs = pairs_of({"a": [1, 1, 1]}, {"a": [1, 1, 1]})
    spared = Match(Pairing(0, 1), (Call(0, 1, Verdict(0.0, attempts=0), "router:tests"),))
    scores = {
        pairs[0].key: replace(won(0.0), per_criterion={"depth": [0.0, 1.0], "facts": [0.5, 0.5]}),
        pairs[1].key: replace(won(1.0), per_criterion={"depth": [0.5, 0.5], "facts": [None, None]}),
        pairs[2].key: replace(won(0.0), matches=(spared,)),
    }
    games = tally(["a"], pairs, scores, CONFIG, seed=0)
    assert games.metrics["heldout/criterion/depth"] == 0.75
    assert games.metrics["heldout/criterion/facts"] == 0.5
    assert games.ungated == [True, True, False]
