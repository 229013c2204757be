from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.run_dir import RunDir
from launch.tracking.display import LiveDisplay, PlainDisplay, make_display
from launch.tracking.fanout import Fanout
from launch.tracking.jsonl import MetricsFile
from launch.tracking.phase_file import PhaseFile
from launch.tracking.status import Status, duration_text, waiting_text
from launch.tracking.wandb_sink import WandbSink
from recipes.schema import WandbConfig
from rl.events import Event, Note, PhaseStarted, Progress, RunDone, StepDone, Waiting

METRICS = {"reward/mean": 0.5031, "reward/reliability": 0.617, "sync/logprob_gap": 0.0341, "time/step_s": 20.0}
HELDOUT = {"heldout/win_rate": 0.714, "heldout/ci95_low": 0.641, "heldout/ci95_high": 0.78}


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = 0

    def handle(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


class Broken(Recorder):
    def close(self) -> None:
        raise OSError("cannot close")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(num_steps: int = 4) -> tuple[PlainDisplay, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    return PlainDisplay(num_steps, Console(file=out, width=60), clock), out, clock


def lines(out: io.StringIO) -> list[str]:
    return out.getvalue().splitlines()


# --- fanout and files -------------------------------------------------------------------------------------------


def test_every_sink_gets_every_event_in_order_and_is_closed() -> None:
    first, broken, last = Recorder(), Broken(), Recorder()
    tracker = Fanout([first, broken, last])
    events: list[Event] = [PhaseStarted(1, "sample", 0.0), StepDone(1, {}), RunDone({})]
    for event in events:
        tracker.handle(event)
    with pytest.raises(OSError, match="cannot close"):
        tracker.close()
    assert first.events == broken.events == last.events == events
    assert (first.closed, last.closed) == (1, 1)


def test_the_metrics_file_has_one_row_a_step(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "demo", {}, seed=0)
    sink = MetricsFile(run)
    for event in (PhaseStarted(1, "learn", 0.0), Note("info", "x"), StepDone(1, METRICS), StepDone(2, {}), RunDone({})):
        sink.handle(event)
    assert run.metrics() == [{"step": 1, **METRICS}, {"step": 2}]


def test_the_phase_file_says_what_the_run_does_and_what_it_waits_for(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path, "demo", {}, seed=0)
    noon = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
    sink = PhaseFile(run, lambda: noon)
    sampling = {"step": 3, "phase": "sample", "since": "2026-01-02T12:00:00+00:00"}
    waits = sampling | {"silent_s": 12, "waiting_for": "rollout step3-0#0/2"}
    events: list[tuple[Event, dict[str, Any]]] = [
        (PhaseStarted(3, "sample", 5.0), sampling),
        (Waiting("sample", 12.3, "rollout step3-0#0/2"), waits),
        (Note("info", "a note"), waits),
        (Progress("sample", 1, 8, "rollouts"), sampling),
        (RunDone({"steps": 3}), sampling | {"phase": "done"}),
    ]
    for event, written in events:
        sink.handle(event)
        assert json.loads((run.path / "phase.json").read_text()) == written


# --- status -----------------------------------------------------------------------------------------------------


def test_status_folds_the_events() -> None:
    status = Status(10).after(PhaseStarted(1, "sample", 5.0)).after(Progress("sample", 3, 48, "rollouts"))
    assert (status.step, status.done, status.phase, status.phase_start_s) == (1, 0, "sample", 5.0)
    assert status.progress is not None
    assert status.seconds_to_go is None
    status = status.after(PhaseStarted(1, "learn", 6.0))
    assert status.progress is None
    status = status.after(StepDone(1, METRICS | HELDOUT)).after(StepDone(2, {"time/step_s": 10.0}))
    assert status.heldout == HELDOUT
    assert status.heldout_step == 1
    assert status.seconds_to_go == (10 - 2) * (20.0 + 10.0) / 2
    assert status.after(RunDone({})).phase == ""


def test_time_to_go_follows_the_last_steps() -> None:
    status = Status(100)
    for step, seconds in enumerate([500.0, 10.0, 10.0, 10.0, 10.0, 10.0], start=1):
        status = status.after(StepDone(step, {"time/step_s": seconds}))
    assert status.seconds_to_go == 94 * 10.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# --- plain display ----------------------------------------------------------------------------------------------


def test_a_step_is_one_line() -> None:
    display, out, _ = plain()
    display.handle(StepDone(1, METRICS))
    display.handle(StepDone(2, METRICS | HELDOUT))
    figures = "reward 0.503 · reliability 0.62 · logprob gap 0.034"
    assert lines(out) == [
        f"step 1/4: {figures} · 1 min 0 s to go",
        f"step 2/4: {figures} · held-out win rate 0.71 [0.64, 0.78] · 40 s to go",
    ]


def test_progress_never_floods_a_log() -> None:
    display, out, clock = plain()
    for tick in range(10_000):
        clock.now = tick * 0.01
        display.handle(Progress("sample", tick, 10_000, "rollouts", {"tokens": 467.2}))
    assert lines(out) == [
        "step 0/4: sample, 3000/10000 rollouts · 467 tokens/s",
        "step 0/4: sample, 6000/10000 rollouts · 467 tokens/s",
        "step 0/4: sample, 9000/10000 rollouts · 467 tokens/s",
    ]


def test_a_quiet_phase_says_what_it_waits_for_until_something_comes() -> None:
    display, out, clock = plain()
    display.handle(PhaseStarted(1, "evaluate", 0.0))
    for clock.now in (10.0, 29.0, 30.0, 32.0, 61.0):
        display.handle(Waiting("sample", clock.now, "rollout step1-0#0/2"))
    display.handle(Waiting("learn", 62.0, ""))
    assert lines(out)[1:] == [
        "step 1/4: sample, nothing for 30 s, waiting for rollout step1-0#0/2",
        "step 1/4: sample, nothing for 1 min 1 s, waiting for rollout step1-0#0/2",
    ]
    quiet = Status(4).after(Waiting("learn", 62.0, ""))
    assert quiet.waiting is not None
    assert waiting_text(quiet.waiting) == "nothing for 1 min 2 s"
    for event in (Progress("sample", 1, 8, "rollouts"), PhaseStarted(2, "sample", 0.0), RunDone({})):
        assert quiet.after(event).waiting is None


def test_short_phases_print_nothing_and_notes_are_not_markup() -> None:
    display, out, _ = plain()
    display.handle(PhaseStarted(1, "start", 0.0))
    for phase in ("sample", "judge", "learn", "sync", "save"):
        display.handle(PhaseStarted(1, phase, 0.0))
    display.handle(Note("warning", "judge said [red]no[/red]"))
    assert lines(out) == ["step 1/4: start", "warning: judge said [red]no[/red]"]


# --- live display -----------------------------------------------------------------------------------------------


def test_the_panel_shows_phase_rates_figures_and_the_interval() -> None:
    out = io.StringIO()
    console = Console(file=out, width=110, force_terminal=True, color_system=None)
    display = make_display("rich", "demo-[1]", 4, console)
    assert isinstance(display, LiveDisplay)
    display.handle(PhaseStarted(1, "start", time.monotonic()))
    display.handle(StepDone(1, METRICS | HELDOUT))
    display.handle(PhaseStarted(2, "sample", time.monotonic() - 12))
    display.handle(Progress("sample", 41, 48, "rollouts", {"tokens": 467.0, "judge calls": 310.0}))
    display.handle(Waiting("sample", 11.0, "rollout step2-0#0/2"))
    display.handle(Note("info", "a [bracket] note"))
    display.close()
    display.close()
    last = out.getvalue().split("demo-[1]")[-1]
    for text in (
        "2/4, 1 min 0 s to go",
        "sample, 12 s · 41/48 rollouts · 467 tokens/s · 310 judge calls/s",
        "nothing for 11 s, waiting for rollout step2-0#0/2",
        "reward 0.503 · reliability 0.62 · logprob gap 0.034",
        "held-out win rate 0.71 [0.64, 0.78]",
    ):
        assert text in last
    assert "a [bracket] note" in out.getvalue()


def test_without_a_terminal_auto_is_plain() -> None:
    assert isinstance(make_display("auto", "demo", 1, Console(file=io.StringIO())), PlainDisplay)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    live = make_display("auto", "demo", 1, terminal)
    live.close()
    assert isinstance(live, LiveDisplay)


# --- wandb ------------------------------------------------------------------------------------------------------


class FakeRun:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.summary: dict[str, Any] = {}
        self.finished = 0

    def log(self, row: dict[str, float], step: int) -> None:
        if self.error:
            raise self.error
        self.rows.append((step, row))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    import wandb

    state: dict[str, Any] = {"run": FakeRun(), "logged_in": True, "asked": None}

    def init(**settings: Any) -> FakeRun:
        state["asked"] = settings
        if isinstance(state["run"], Exception):
            raise state["run"]
        return state["run"]

    def login(prompt: bool) -> bool:
        assert prompt is False
        if isinstance(state["logged_in"], Exception):
            raise state["logged_in"]
        return state["logged_in"]

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "login", login)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    return state


def test_wandb_gets_steps_and_summary_and_is_offline_by_default(tmp_path: Path, fake_wandb: dict[str, Any]) -> None:
    notes = Recorder()
    sink = WandbSink(WandbConfig(), tmp_path / "demo-1", {"seed": 3}, notes.handle)
    sink.handle(StepDone(1, METRICS))
    sink.handle(RunDone({"steps": 1}))
    sink.close()
    sink.close()
    asked = fake_wandb["asked"]
    assert (asked["mode"], asked["dir"], asked["config"]) == ("offline", tmp_path / "demo-1", {"seed": 3})
    assert fake_wandb["run"].rows == [(1, METRICS)]
    assert fake_wandb["run"].summary == {"steps": 1}
    assert fake_wandb["run"].finished == 1
    assert notes.events == []


@pytest.mark.parametrize("logged_in", [True, False, OSError("no network")])
def test_online_needs_asking_and_a_login(tmp_path: Path, fake_wandb: dict[str, Any], logged_in: Any) -> None:
    fake_wandb["logged_in"] = logged_in
    notes = Recorder()
    WandbSink(WandbConfig(mode="online"), tmp_path, {}, notes.handle)
    assert fake_wandb["asked"]["mode"] == ("online" if logged_in is True else "offline")
    assert len(notes.events) == (0 if logged_in is True else 1)


def test_a_broken_wandb_is_told_once_and_never_kills_the_run(tmp_path: Path, fake_wandb: dict[str, Any]) -> None:
    fake_wandb["run"] = FakeRun(ConnectionResetError("Connection\nlost"))
    notes = Recorder()
    sink = WandbSink(WandbConfig(), tmp_path, {}, notes.handle)
    for step in (1, 2, 3):
        sink.handle(StepDone(step, {}))
    sink.close()
    (note,) = notes.events
    assert isinstance(note, Note)
    assert note.text.startswith("wandb failed (Connection lost) and is off for this run")


def test_a_wandb_that_does_not_start_is_told_once(tmp_path: Path, fake_wandb: dict[str, Any]) -> None:
    import wandb

    fake_wandb["run"] = wandb.Error("no core")
    notes = Recorder()
    sink = WandbSink(WandbConfig(), tmp_path, {}, notes.handle)
    sink.handle(StepDone(1, {}))
    sink.close()
    assert len(notes.events) == 1


def test_a_bug_in_ours_is_not_taken_for_a_broken_wandb(tmp_path: Path, fake_wandb: dict[str, Any]) -> None:
    fake_wandb["run"] = FakeRun(TypeError("a bug"))
    sink = WandbSink(WandbConfig(), tmp_path, {}, Recorder().handle)
    with pytest.raises(TypeError, match="a bug"):
        sink.handle(StepDone(1, {}))


@pytest.mark.slow
def test_a_real_offline_wandb_writes_into_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    notes = Recorder()
    sink = WandbSink(WandbConfig(), tmp_path, {"name": "demo", "rl": {"num_steps": 2}}, notes.handle)
    for step in (1, 2):
        sink.handle(StepDone(step, {"reward/mean": 0.1 * step}))
    sink.handle(RunDone({"heldout": {"win_rate": 0.7}}))
    sink.close()
    assert notes.events == []
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"reward/mean" in written.read_bytes()
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_a_wandb_whose_process_dies_is_told_once_and_says_nothing_itself(tmp_path: Path) -> None:
    code = """
import json, pathlib, sys, psutil
from launch.tracking.wandb_sink import WandbSink
from recipes.schema import WandbConfig
from rl.events import RunDone, StepDone

sink = WandbSink(WandbConfig(), pathlib.Path(sys.argv[1]), {}, lambda note: print(note.text))
(core,) = (child for child in psutil.Process().children() if child.name() == "wandb-core")
core.kill()
core.wait()
for step in (1, 2, 3):
    sink.handle(StepDone(step, {"reward/mean": 0.5}))
sink.handle(RunDone({"steps": 3}))
sink.close()
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("wandb failed (Connection lost) and is off for this run; metrics.jsonl has every row")
