from __future__ import annotations

from rl.events import PhaseStarted
from rl.phases import PhaseClock
from tests.rl.fakes import FakeEvents


def test_seconds_by_hand() -> None:
    times = iter([0.0, 2.0, 2.0, 5.0, 5.0, 6.0, 10.0, 14.0])
    events = FakeEvents()
    clock = PhaseClock(events, clock=lambda: next(times))
    clock.enter("start", 0)  # at 0
    clock.enter("learn", 1)  # at 2
    clock.enter("save", 1)  # at 5
    assert clock.so_far() == {"start": 2.0, "learn": 3.0}
    assert clock.end_step() == {"time/start_s": 2.0, "time/learn_s": 3.0, "time/save_s": 1.0, "time/step_s": 6.0}
    clock.enter("learn", 2)
    assert clock.end_step() == {"time/learn_s": 4.0, "time/step_s": 4.0}
    assert clock.totals == {"start": 2.0, "learn": 7.0, "save": 1.0}
    assert events.seen == [
        PhaseStarted(0, "start", 0.0),
        PhaseStarted(1, "learn", 2.0),
        PhaseStarted(1, "save", 5.0),
        PhaseStarted(2, "learn", 10.0),
    ]
