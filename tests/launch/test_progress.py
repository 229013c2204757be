"""Progress inside a phase, on a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from launch.progress import ProgressMeter
from recipes.load import load_recipe
from rewards.types import Call, GroupKey, Verdict
from rl.events import Event, Note, Phase, PhaseStarted, Progress
from tests.launch.fakes import FULL
from tests.rl.fakes import make_rollout

KEY = GroupKey("g")
ROLLOUT = make_rollout(KEY, 0, 10)
CALL = Call(0, 1, Verdict(1.0), "j")


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Tracker:
    events: list[Event] = field(default_factory=list)
    num_closed: int = 0

    def handle(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.num_closed += 1

    def progress(self) -> list[Progress]:
        return [event for event in self.events if isinstance(event, Progress)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
def meter(clock: Clock, tracker: Tracker) -> ProgressMeter:
    return ProgressMeter(load_recipe(FULL).recipe, tracker, clock)


def enter(meter: ProgressMeter, phase: Phase) -> None:
    meter.handle(PhaseStarted(1, phase, 0.0))


def test_sampling_is_told_in_rollouts_of_the_step_with_both_rates(
    meter: ProgressMeter, clock: Clock, tracker: Tracker
) -> None:
    enter(meter, "sample")
    for _ in range(3):
        meter.on_rollout(ROLLOUT)
    meter.on_call(KEY, CALL)
    assert tracker.progress() == []
    clock.now += 2.0
    meter.on_rollout(ROLLOUT)
    # 4 rollouts of 10 tokens and 1 call in 2 s; 6 prompts x 8
    assert tracker.progress() == [Progress("sample", 4, 48, "rollouts", {"tokens": 20.0, "judge calls": 0.5})]


def test_at_most_two_a_second(meter: ProgressMeter, clock: Clock, tracker: Tracker) -> None:
    enter(meter, "sample")
    for _ in range(100):
        clock.now += 0.125
        meter.on_rollout(ROLLOUT)
    assert [progress.done for progress in tracker.progress()] == list(range(4, 101, 4))


def test_judging_has_no_known_end(meter: ProgressMeter, clock: Clock, tracker: Tracker) -> None:
    enter(meter, "judge")
    clock.now += 0.5
    meter.on_call(KEY, CALL)
    assert tracker.progress() == [Progress("judge", 1, None, "calls", {"tokens": 0.0, "judge calls": 2.0})]


def test_an_evaluation_counts_its_own_answers(meter: ProgressMeter, clock: Clock, tracker: Tracker) -> None:
    enter(meter, "evaluate")
    clock.now += 1.0
    meter.on_rollout(ROLLOUT)
    assert tracker.progress() == [Progress("evaluate", 1, 64, "rollouts", {"tokens": 10.0, "judge calls": 0.0})]


def test_each_phase_counts_from_nothing(meter: ProgressMeter, clock: Clock, tracker: Tracker) -> None:
    enter(meter, "sample")
    meter.on_rollout(ROLLOUT)
    clock.now += 5.0
    enter(meter, "evaluate")
    meter.on_rollout(ROLLOUT)
    assert tracker.progress() == []
    clock.now += 1.0
    meter.on_rollout(ROLLOUT)
    assert [(progress.done, progress.rates["tokens"]) for progress in tracker.progress()] == [(2, 20.0)]


@pytest.mark.parametrize("phase", ["start", "learn", "sync", "save"])
def test_other_phases_have_nothing_to_count(meter: ProgressMeter, clock: Clock, tracker: Tracker, phase: Phase) -> None:
    enter(meter, phase)
    clock.now += 5.0
    meter.on_call(KEY, CALL)
    assert tracker.progress() == []


def test_every_event_reaches_the_tracker_and_so_does_the_end(meter: ProgressMeter, tracker: Tracker) -> None:
    meter.starting()
    note = Note("info", "a word")
    meter.handle(note)
    assert tracker.events == [PhaseStarted(0, "start", 100.0), note]
    meter.close()
    assert tracker.num_closed == 1


def test_rollouts_that_were_sampled_ahead_count_once_the_loop_waits_for_them(
    meter: ProgressMeter, clock: Clock, tracker: Tracker
) -> None:
    enter(meter, "learn")
    clock.now += 8.0
    meter.on_rollout(ROLLOUT)  # told to nobody: the run is learning
    assert tracker.progress() == []
    enter(meter, "sample")
    clock.now += 2.0
    meter.on_rollout(ROLLOUT)
    (progress,) = tracker.progress()
    assert (progress.done, progress.rates["tokens"]) == (2, 20 / 10.0)
