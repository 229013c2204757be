"""Faults on purpose: what is read, what is drawn, who is killed."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from launch.chaos import FAULTS, Chaos, EngineKiller, faulty, parse_chaos
from rewards.arena import Arena
from rewards.config import CallLimits
from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import PanelJudge, PanelMember, ProgramJudge
from rewards.judges import build_judge
from rewards.judges.panel import Panel
from rewards.program_config import LengthProgram
from rewards.topology_config import KWise
from rewards.types import Candidate, GroupScore, ListJudge, Places, Prompt
from rl.events import Event, Note, PhaseStarted
from tests.rewards.test_arena import KEY, FakeJudge, add_all, config


def test_reading() -> None:
    chaos = parse_chaos("kill=engine:0.1, judge=error:0.25", seed=7)
    assert chaos.probabilities == {"kill=engine": 0.1, "judge=error": 0.25}
    assert chaos.draw("a", 1) == parse_chaos("judge=error:1", seed=7).draw("a", 1)
    assert chaos.draw("a", 1) != parse_chaos("judge=error:1", seed=8).draw("a", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kill=engin:0.1", "unknown fault 'kill=engin'; did you mean 'kill=engine'?"),
        ("", "choose from kill=engine"),
        ("judge=error", "write a probability, for instance judge=error:0.1"),
        ("judge=error:often", "write a probability"),
        ("judge=error:1.5", "a probability lies in [0, 1]"),
        ("judge=error:nan", "a probability lies in [0, 1]"),
        ("judge=error:0.1,judge=error:0.1", "comes twice"),
        ("judge=error:0.7,judge=timeout:0.7", "more than probability 1 together"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_chaos(text, seed=0)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_command_refuses_before_it_starts_anything() -> None:
    from launch.cli import app

    done = CliRunner().invoke(app, ["train", "nowhere.yaml", "--chaos", "kill=all:1"])
    assert "unknown fault" in f"{done.output}{done.exception}"


async def play(chaos: Chaos, **fields: object) -> GroupScore:
    limits = CallLimits(
        backoff_s=0.0, timeout_s=0.5 if "judge=timeout" in chaos.probabilities else 60.0, max_attempts=2
    )
    arena = Arena(config(calls=limits, **fields), faulty(FakeJudge(), chaos))
    await add_all(arena, 16)
    return (await arena.scores())[KEY]


@pytest.mark.parametrize(
    ("faults", "cause", "share"),
    [
        ("judge=garbage:0.3", "bad_reply", 0.3),  # not asked again
        ("judge=error:0.5", "server_error", 0.25),  # lost when both attempts fail
    ],
)
def test_each_fault_costs_its_share_of_calls_and_invents_nothing(faults: str, cause: str, share: float) -> None:
    score = asyncio.run(play(parse_chaos(faults, seed=1)))
    assert set(score.failures) == {cause}
    assert score.num_failed / score.num_calls == pytest.approx(share, abs=0.08)
    assert asyncio.run(play(parse_chaos(faults, seed=1))).rewards == score.rewards
    assert asyncio.run(play(parse_chaos(faults, seed=2))).rewards != score.rewards


def test_a_call_that_is_never_answered_ends_at_its_deadline() -> None:
    score = asyncio.run(play(parse_chaos("judge=timeout:0.5", seed=1)))
    assert set(score.failures) == {"timeout"}
    assert 0.1 < score.num_failed / score.num_calls < 1.0


def test_no_faults_change_nothing() -> None:
    score = asyncio.run(play(parse_chaos("judge=error:0", seed=1)))
    assert score.num_failed == 0


def test_a_judge_that_ranks_stays_one() -> None:
    class Ranker(FakeJudge):
        async def rank(self, prompt: Prompt, candidates: Sequence[Candidate]) -> Places:
            return Places(tuple(range(len(candidates))))

    assert not isinstance(faulty(FakeJudge(), parse_chaos("judge=error:1", seed=0)), ListJudge)
    judge = faulty(Ranker(), parse_chaos("judge=garbage:1", seed=0))
    assert isinstance(judge, ListJudge)

    async def rank() -> GroupScore:
        arena = Arena(config(topology=KWise(kind="k_wise"), calls=CallLimits(backoff_s=0.0)), judge)
        await add_all(arena, 4)
        return (await arena.scores())[KEY]

    score = asyncio.run(rank())
    assert score.failures == {"bad_reply": score.num_calls}


class Events:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    def handle(self, event: Event) -> None:
        self.seen.append(event)

    def close(self) -> None: ...


def killed(chaos: Chaos, num_steps: int, rollouts: int = 8) -> tuple[list[tuple[int, int]], Events]:
    """(rollouts before it, process id) of every kill; signals are checked."""
    kills: list[tuple[int, int]] = []
    events, done = Events(), 0

    def kill(pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        kills.append((done, pid))

    killer = EngineKiller(
        chaos, events, processes=lambda: {"engine0-5": 5, "engine0-6": 6}, rollouts_per_step=rollouts, kill=kill
    )
    for step in range(1, num_steps + 1):
        killer.handle(PhaseStarted(step, "sample", 0.0))
        for done in range(1, rollouts + 1):  # noqa: B007 - read by kill
            killer.on_rollout()
        killer.handle(PhaseStarted(step, "judge", 0.0))
        killer.on_rollout()  # a straggler: nobody is killed outside sampling
    return kills, events


def test_kills_come_at_their_rate_in_the_middle_of_sampling_and_are_told() -> None:
    kills, events = killed(parse_chaos("kill=engine:0.25", seed=3), 400)
    assert len(kills) == pytest.approx(100, abs=25)
    assert {after for after, _ in kills} == set(range(1, 9))
    assert set(Counter(pid for _, pid in kills)) == {5, 6}
    notes = [event.text for event in events.seen if isinstance(event, Note)]
    assert len(notes) == len(kills)
    assert notes[0].startswith("chaos: step ")
    assert killed(parse_chaos("kill=engine:0.25", seed=3), 400)[0] == kills


def test_without_kills_nobody_dies() -> None:
    assert killed(parse_chaos("judge=error:1", seed=3), 50)[0] == []
    assert set(FAULTS) == {"kill=engine", "judge=error", "judge=garbage", "judge=timeout"}


async def test_members_of_a_panel_fail_one_by_one() -> None:
    length = ProgramJudge(kind="program", by=LengthProgram(kind="length", target=3))
    members = tuple(PanelMember(judge=length, name=name) for name in ("a", "b"))
    panel = faulty(build_judge(PanelJudge(kind="panel", members=members)), parse_chaos("judge=error:1", seed=1))
    assert isinstance(panel, Panel)
    assert [member.name for member in panel.members] == ["a", "b"]
    for member in panel.members:
        with pytest.raises(JudgeFailure, match="chaos"):
            await member.compare(Prompt("p", "t"), Candidate("0", "x"), Candidate("1", "y"))
