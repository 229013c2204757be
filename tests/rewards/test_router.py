"""Pairs that a verifiable score tells apart are decided by it, and nobody is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rewards.arena import Arena
from rewards.config import CallBudget, RouterConfig, TournamentRewards
from rewards.endpoint_config import EndpointConfig
from rewards.gate_config import LengthGate
from rewards.health import judge_health
from rewards.judge_config import ChatJudge, ProgramJudge, PythonJudge
from rewards.match_rows import match_rows
from rewards.program_config import LengthProgram
from rewards.router import Router
from rewards.topology_config import KWise, SingleElimination
from rewards.types import Call, Candidate, GroupScore, Pairing, Prompt, Ranking
from tests.rewards.test_arena import KEY, PROMPT, FakeJudge

GATE = LengthGate(kind="length", soft=True, weight=0.0)


class Passes:
    """A soft gate that weighs nothing: 1 for the given ids, else 0."""

    name, weight = "tests", 0.0

    def __init__(self, *ids: int) -> None:
        self._ids = ids

    def score(self, prompt: Prompt, candidate: Candidate) -> float:
        return float(int(candidate.id) in self._ids)


def config(**keys: Any) -> TournamentRewards:
    """Not validated: the gates of these tests are no config's."""
    valid = TournamentRewards(judge=PythonJudge(kind="python", target="a:b"), **keys)
    return valid.model_copy(update={"router": RouterConfig(gate="tests")})


async def play(judge: FakeJudge, gate: Passes, size: int = 4, *, groups_per_step: int | None = None, **keys: Any):
    told: list[Call | Ranking] = []
    arena = Arena(
        config(**keys), judge, [gate], on_call=lambda _, call: told.append(call), groups_per_step=groups_per_step
    )
    await arena.open(KEY, PROMPT, size)
    for index in range(size):
        await arena.add(KEY, index, Candidate(str(index), ""))
    score: GroupScore = (await arena.scores())[KEY]
    return score, told


def test_who_wins_by_hand() -> None:
    scores = {0: {"t": 1.0}, 1: {"t": 0.5}, 2: {"t": 0.25}, 3: {}}
    plain, wide = Router("t"), Router("t", margin=0.5)
    assert [plain.decide(Pairing(*pair), scores) for pair in ((0, 1), (1, 2), (2, 3), (0, 4))] == [1.0, 1.0, None, None]
    assert [wide.decide(Pairing(*pair), scores) for pair in ((0, 1), (1, 2), (0, 2))] == [None, None, 1.0]
    assert plain.decide(Pairing(1, 2), {1: {"t": 0.0}, 2: {"t": 1.0}}) == 0.0
    assert plain.decide(Pairing(1, 2), {1: {"u": 0.0}, 2: {"u": 1.0}}) is None


def test_what_the_log_says() -> None:
    router = Router("t")
    both = router.calls(Pairing(1, 3), 1.0, calls_per_item=2, symmetric=False, seed=0)
    assert [(c.first, c.second, c.verdict.value, c.judge, c.weight) for c in both] == [
        (1, 3, 1.0, "router:t", 1.0),
        (3, 1, 0.0, "router:t", 1.0),
    ]
    assert all(call.verdict.attempts == 0 and call.verdict.cost == 0.0 for call in both)
    panel = router.calls(Pairing(1, 3), 1.0, calls_per_item=6, symmetric=False, seed=0)
    assert [call.weight for call in panel] == [3.0, 3.0]
    lots = {router.calls(Pairing(1, 3), 1.0, calls_per_item=1, symmetric=False, seed=s)[0].first for s in range(20)}
    assert lots == {1, 3}


@pytest.mark.parametrize("orders", ["both", "random", "first", "both_if_close"])
async def test_only_pairs_that_are_level_are_asked_about(orders: Any) -> None:
    judge = FakeJudge()  # The lower index wins.
    score, told = await play(judge, Passes(2, 3), orders=orders)
    assert {tuple(sorted(pair)) for pair in judge.asked} == {(0, 1), (2, 3)}
    assert score.num_calls == len(judge.asked) == len(told)
    rewards = [reward for reward in score.rewards if reward is not None]
    assert rewards[2] > rewards[3] > rewards[0] > rewards[1]  # Those who passed, and among each other by the judge.
    rows = match_rows(KEY, PROMPT, ["", "", "", ""], score)
    assert {row["judge"] for row in rows if row["attempts"] == 0} == {"router:tests"}
    assert sum(row["attempts"] > 0 for row in rows) == score.num_calls


async def test_spared_calls_are_counted_and_in_no_rate() -> None:
    score, _ = await play(FakeJudge(), Passes(3))
    health = judge_health([score])
    assert (health["num_calls"], health["num_spared"]) == (6.0, 6.0)
    assert health["first_seat_rate"] == 0.5
    level, _ = await play(FakeJudge(), Passes())
    assert "num_spared" not in judge_health([level])


async def test_a_bracket_takes_the_verifiers_word() -> None:
    judge = FakeJudge()
    score, _ = await play(judge, Passes(3), topology=SingleElimination(kind="single_elimination"))
    rewards = [reward for reward in score.rewards if reward is not None]
    assert rewards[3] == max(rewards)
    assert len(judge.asked) == score.num_calls > 0
    assert all(3 not in pair for pair in judge.asked)


async def test_decided_pairs_spend_no_budget() -> None:
    judge = FakeJudge()
    score, _ = await play(judge, Passes(2, 3), groups_per_step=1, budget=CallBudget(calls_per_group=2))
    assert len(judge.asked) == 2
    assert len(score.matches) == 5


ENDPOINT = EndpointConfig(base_url="http://h/v1", model="m")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"gates": ()}, "no soft gate is called 'length'; there is no soft gate"),
        ({"gates": (GATE.model_copy(update={"soft": False, "weight": 1.0}),)}, "there is no soft gate"),
        ({"gates": (GATE.model_copy(update={"name": "words"}),)}, "soft gates: words"),
        ({"judge": ChatJudge(kind="chat", endpoint=ENDPOINT, reply="scores")}, "this judge gives scores"),
        ({"judge": ChatJudge(kind="chat", endpoint=ENDPOINT), "topology": KWise(kind="k_wise")}, "k_wise"),
    ],
)
def test_refusals(keys: dict[str, Any], words: str) -> None:
    judge = ProgramJudge(kind="program", by=LengthProgram(kind="length", target=3))
    right = {"judge": judge, "gates": (GATE,), "router": RouterConfig(gate="length")}
    assert TournamentRewards(**right).router is not None
    with pytest.raises(ValidationError, match=words):
        TournamentRewards(**{**right, **keys})
