"""Faults on purpose: what is read, what is drawn, who is killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.chaos import FAULTS, Chaos, parse_chaos
from launch.chaos_judge import faulty
from launch.chaos_processes import DRIVER_PHASES, SOON_S, ProcessFaults
from rewards.arena import Arena
from rewards.config import CallLimits
from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import PanelJudge, PanelMember, ProgramJudge
from rewards.judges import build_judge
from rewards.judges.panel import Panel
from rewards.program_config import LengthProgram
from rewards.topology_config import KWise
from rewards.types import Candidate, GroupScore, ListJudge, Places, Prompt
from rl.events import Event, Note, Phase, PhaseStarted
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
        ("judge=empty:0.3", "empty", 0.3),
        ("judge=error:0.5", "server_error", 0.25),  # lost when both attempts fail
        ("judge=connection:0.5", "connection", 0.25),
        ("judge=rate_limit:0.5", "rate_limit", 0.25),
    ],
)
def test_each_fault_costs_its_share_of_calls_and_invents_nothing(
    faults: str, cause: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.chaos_judge.RETRY_AFTER_S", 0.0)
    score = asyncio.run(play(parse_chaos(faults, seed=1)))
    assert set(score.failures) == {cause}
    assert score.num_failed / score.num_calls == pytest.approx(share, abs=0.08)
    assert asyncio.run(play(parse_chaos(faults, seed=1))).rewards == score.rewards
    assert asyncio.run(play(parse_chaos(faults, seed=2))).rewards != score.rewards


def test_a_call_that_is_never_answered_ends_at_its_deadline() -> None:
    score = asyncio.run(play(parse_chaos("judge=timeout:0.5", seed=1)))
    assert set(score.failures) == {"timeout"}
    assert 0.1 < score.num_failed / score.num_calls < 1.0


def test_a_slow_judge_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.chaos_judge.LATE_S", 0.02)
    quick, slow = (asyncio.run(play(parse_chaos(f"judge=slow:{p}", seed=1))) for p in (0, 1))
    assert slow.num_failed == 0
    assert slow.rewards == quick.rewards


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


class Host:
    """A driver, an engine and two ranks that are never hurt; `strikes` is (step, phase, rollouts before it, pid)."""

    ROLLOUTS = 8

    def __init__(self, faults: str, log: Path, seed: int = 3, staleness: int = 0) -> None:
        self.strikes: list[tuple[int, str, int, int]] = []
        self.signals: set[int] = set()
        self.events = Events()
        self.delays: list[float] = []
        self._now: tuple[int, str, int] = (0, "", 0)
        self.faults = ProcessFaults(
            parse_chaos(faults, seed=seed),
            self.events,
            engines=lambda: {"engine0-actor": 5, "engine0-worker-6": 6, "engine0-python3-7": 7},
            ranks=lambda: {"rank0": 8, "rank1": 9},
            rollouts_per_step=self.ROLLOUTS,
            staleness=staleness,
            log=log,
            kill=self._kill,
            later=self._later,
        )

    def _kill(self, pid: int, number: int) -> None:
        self.signals.add(number)
        step, phase, after = self._now
        self.strikes.append((step, phase, after, pid))

    def _later(self, delay_s: float, strike: Callable[[], None]) -> None:
        self.delays.append(delay_s)
        strike()

    def enter(self, step: int, phase: Phase) -> None:
        self._now = (step, phase, 0)
        self.faults.handle(PhaseStarted(step, phase, 0.0))

    def run(self, steps: Sequence[int], *, to_the_death: bool = False) -> Host:
        for step in steps:
            for phase in DRIVER_PHASES:
                self.enter(step, phase)
                if self.strikes and to_the_death:
                    return self
                for number in range(1, self.ROLLOUTS + 1) if phase == "sample" else ():
                    self._now = (step, phase, number)
                    self.faults.on_rollout()
            self.faults.on_rollout()  # a straggler: nobody is struck outside sampling
        return self


@pytest.mark.parametrize("fault", ["kill=engine", "hang=engine"])
def test_engines_are_struck_at_their_rate_in_the_middle_of_sampling(fault: str, tmp_path: Path) -> None:
    host = Host(f"{fault}:0.25", tmp_path / "log").run(range(1, 401))
    assert len(host.strikes) == pytest.approx(100, abs=25)
    assert {phase for _, phase, _, _ in host.strikes} == {"sample"}
    assert {after for _, _, after, _ in host.strikes} == set(range(8))
    assert {pid for *_, pid in host.strikes} == {5, 6}  # never a helper that nobody would miss
    assert host.signals == {signal.SIGKILL if fault.startswith("kill") else signal.SIGSTOP}
    notes = [event.text for event in host.events.seen if isinstance(event, Note)]
    assert len(notes) == len(host.strikes)
    assert re.match(r"chaos: step \d+: (killing|stopping) engine0-", notes[0])
    assert Host(f"{fault}:0.25", tmp_path / "again").run(range(1, 401)).strikes == host.strikes


def test_a_step_that_is_refilled_is_struck_at_most_once(tmp_path: Path) -> None:
    host = Host("kill=engine:1", tmp_path / "log")
    for step in (1, 1, 2):
        host.run([step])
    assert [step for step, *_ in host.strikes] == [1, 2]


def test_with_stale_rollouts_engines_are_struck_while_the_step_before_is_learned(tmp_path: Path) -> None:
    host = Host("kill=engine:1", tmp_path / "log", staleness=1)
    phases: list[tuple[int, Phase]] = [
        (1, "sample"),
        (1, "judge"),
        (1, "learn"),
        (2, "sample"),
        (1, "sync"),
        (2, "learn"),
    ]
    for step, phase in phases:
        host.enter(step, phase)
        for _ in range(host.ROLLOUTS):
            host.faults.on_rollout()
    assert [(step, phase) for step, phase, *_ in host.strikes] == [(1, "sample"), (1, "learn"), (2, "learn")]


def test_ranks_die_while_they_learn(tmp_path: Path) -> None:
    host = Host("kill=learner:0.25", tmp_path / "log").run(range(1, 401))
    assert len(host.strikes) == pytest.approx(100, abs=25)
    assert {(phase, pid) for _, phase, _, pid in host.strikes} == {("learn", 8), ("learn", 9)}
    assert 0 <= min(host.delays) < max(host.delays) < SOON_S


def test_the_driver_dies_in_every_phase(tmp_path: Path) -> None:
    host = Host("kill=driver:0.25", tmp_path / "log").run(range(1, 401))
    assert len(host.strikes) == pytest.approx(100, abs=25)
    assert {phase for _, phase, _, _ in host.strikes} == set(DRIVER_PHASES)
    assert {pid for *_, pid in host.strikes} == {os.getpid()}


@pytest.mark.parametrize("fault", ["kill=driver", "kill=learner"])
def test_a_resumed_run_draws_anew_where_it_was_struck_and_gets_on(fault: str, tmp_path: Path) -> None:
    log, done, processes = tmp_path / "log", 0, 0
    while done < 40:
        processes += 1
        assert processes < 80
        host = Host(f"{fault}:0.5", log)
        for step in range(done + 1, 41):
            if host.run([step], to_the_death=True).strikes:
                break
            done = step
    assert processes > 10
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(entries) == processes - 1
    assert max(Counter(entry["step"] for entry in entries).values()) > 1
    assert {entry["fault"] for entry in entries} == {fault}


def test_without_kills_nobody_dies(tmp_path: Path) -> None:
    assert Host("judge=error:1", tmp_path / "log").run(range(50)).strikes == []
    assert not (tmp_path / "log").exists()
    # The soak test of tests/e2e runs under all of them.
    assert {fault.partition("=")[0] for fault in FAULTS} == {"kill", "hang", "judge"}


async def test_members_of_a_panel_fail_one_by_one() -> None:
    length = ProgramJudge(kind="program", by=LengthProgram(kind="length", target=3))
    members = tuple(PanelMember(judge=length, name=name) for name in ("a", "b"))
    panel = faulty(build_judge(PanelJudge(kind="panel", members=members)), parse_chaos("judge=error:1", seed=1))
    assert isinstance(panel, Panel)
    assert [member.name for member in panel.members] == ["a", "b"]
    for member in panel.members:
        with pytest.raises(JudgeFailure, match="chaos"):
            await member.compare(Prompt("p", "t"), Candidate("0", "x"), Candidate("1", "y"))
