"""What a watcher wants to know, folded from the events: a frozen value, so that another thread can draw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rl.events import Event, PhaseStarted, Progress, RunDone, StepDone, Waiting

FIGURES = (
    ("reward", "reward/mean", ".3f"),
    ("reliability", "reward/reliability", ".2f"),
    ("loss", "sft/loss", ".4f"),
    ("held-out loss", "sft/heldout_loss", ".4f"),
    ("perplexity", "sft/heldout_perplexity", ".2f"),
    ("logprob gap", "sync/logprob_gap", ".3f"),
    ("answer tokens", "rollout/mean_tokens", ".0f"),
    ("tokens/s", "rollout/tokens_per_s", ".0f"),
    ("judge calls/s", "judge/calls_per_s", ".0f"),
)
"""Label, metric (`rl/events.py`) and format, in the order shown."""

SECONDS_KEPT = 5
"""Steps whose mean duration gives the time to go."""


@dataclass(frozen=True, slots=True)
class Status:
    """`step` is the last one begun, `done` the last one finished; times are of the events' monotonic clock."""

    num_steps: int
    step: int = 0
    done: int = 0
    phase: str = ""
    phase_start_s: float = 0.0
    progress: Progress | None = None
    waiting: Waiting | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    heldout: Mapping[str, float] = field(default_factory=dict)
    heldout_step: int | None = None
    step_seconds: tuple[float, ...] = ()
    finished: bool = False

    def after(self, event: Event) -> Status:
        """The status once `event` has happened."""
        match event:
            case PhaseStarted(step=step, phase=phase, time_s=time_s):
                return replace(self, step=step, phase=phase, phase_start_s=time_s, progress=None, waiting=None)
            case Progress():
                return replace(self, progress=event, waiting=None)
            case Waiting():
                return replace(self, waiting=event)
            case StepDone(step=step, metrics=metrics):
                later = replace(self, step=step, done=step, metrics=metrics)
                if "time/step_s" in metrics:
                    later = replace(later, step_seconds=(*self.step_seconds, metrics["time/step_s"])[-SECONDS_KEPT:])
                heldout = {key: value for key, value in metrics.items() if key.startswith("heldout/")}
                return replace(later, heldout=heldout, heldout_step=step) if "heldout/win_rate" in heldout else later
            case RunDone():
                return replace(self, finished=True, phase="", progress=None, waiting=None)
        return self

    @property
    def seconds_to_go(self) -> float | None:
        """Steps left times the mean duration of the last ones; None before the first step is done."""
        if not self.step_seconds:
            return None
        return (self.num_steps - self.done) * sum(self.step_seconds) / len(self.step_seconds)


def figures_text(metrics: Mapping[str, float]) -> str:
    """`reward 0.503 · reliability 0.62 · ...`, of the figures that are there."""
    return " · ".join(f"{label} {metrics[key]:{spec}}" for label, key, spec in FIGURES if key in metrics)


def heldout_text(heldout: Mapping[str, float]) -> str:
    """`held-out win rate 0.71 [0.64, 0.78]`, or nothing before the first evaluation."""
    if "heldout/win_rate" not in heldout:
        return ""
    text = f"held-out win rate {heldout['heldout/win_rate']:.2f}"
    if {"heldout/ci95_low", "heldout/ci95_high"} <= heldout.keys():
        text += f" [{heldout['heldout/ci95_low']:.2f}, {heldout['heldout/ci95_high']:.2f}]"
    return text


def progress_text(progress: Progress) -> str:
    """`41/48 rollouts · 467 tokens/s`."""
    amount = f"{progress.done}/{progress.total}" if progress.total is not None else str(progress.done)
    rates = [f"{rate:.0f} {name}/s" for name, rate in progress.rates.items()]
    return " · ".join([f"{amount} {progress.unit}", *rates])


def waiting_text(waiting: Waiting) -> str:
    """`nothing for 42 s, waiting for rollout step3-0#0/2`."""
    return f"nothing for {duration_text(waiting.silent_s)}" + (f", waiting for {waiting.on}" if waiting.on else "")


def duration_text(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
