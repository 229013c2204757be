"""One stream of events: what a run tells the files, the tracker and the screen.

    rl/trainer.py --handle(event)--> EventSink: metrics.jsonl, wandb, the display, or several of them (launch/tracking/)

A metric's name is `<area>/<what>`; shares in [0, 1] end in `_fraction` or `_rate`, counts begin with `num_`. The
display and the report read these; a producer that has the figure uses this name, and leaves the key out when it has
not:

    rollout/mean_tokens  rollout/truncated_fraction  rollout/num_lost
    rollout/tokens_per_s           answer tokens per second that sampling took, beside the loop or in front of it
    reward/mean                    raw reward of the scored rollouts
    reward/reliability             mean over groups
    reward/num_unscored  reward/num_groups_dropped
    reward/num_groups_kept  .._refilled  .._given_up   under rl.dynamic_sampling: learned from, sampled in the place of
                                   others, places that stayed empty; reward/* and rollout/* are of those learned from
    segment/<name>_reward  .._advantage_std  .._zero_signal_rate  .._tokens
                                   per segment: its own reward, before later ones are seen; groups it teaches nothing in
    criterion/<name>_reward  .._advantage_std  .._zero_signal_rate  .._num_scored
                                   per criterion of rl.objective.criteria, as of segments; rollouts that it teaches
    figure/<name>                  mean over rollouts of a number that a scorer reports
    judge/num_calls  judge/calls_per_s
    judge/order_flip_rate  judge/tie_rate  judge/failure_rate
    judge/first_seat_rate  judge/circular_triad_rate  judge/consistence  judge/conflict_rate  judge/informativeness
    judge/judge_alpha  judge/judge_share:A:B  judge/judge_kappa:A:B        of a panel (rewards/diagnostics/README.md)
    judge/audit_agreement  judge/audit_kappa  judge/num_audited  judge/num_audit_calls  .._failed  .._unasked
    judge/audit_tokens  judge/audit_cost
                                   the second judge on a share of the pairs, with evaluation.audit_share
    judge/calibration_accuracy  judge/num_calibrated  judge/num_calibration_failed
                                   verdicts on the pairs of rewards.calibration
    reward/length_correlation  reward/style_<what>_correlation  .._partial_correlation
                                   these, and the judge's rates: with .._low and .._high, the 95 % interval
    judge/num_alarms               of rewards.alarms, those that warned
    judge/num_cached  judge/num_attempts  judge/tokens_in  judge/tokens_out  judge/cost
    judge/latency_mean_s  judge/latency_p50_s  judge/latency_p95_s
    rl/loss  rl/grad_norm  rl/clip_fraction
    sync/logprob_gap               mean |learner - engine| logprob of the sampled tokens, nats; with rl.staleness of a
                                   probe after the sync, since the rollouts are older: stale/logprob_gap, stale/..
    stale/mean_versions            policy versions between sampling and learning, mean over tokens
    heldout/win_rate               against the starting model; only at steps that evaluate
    heldout/ci95_low  heldout/ci95_high  heldout/mean_tokens
    heldout/<name>  .._before      scorers: means of `reward` and of every figure, now and of the starting model
    sft/loss  sft/heldout_loss     cross-entropy, nats an answer token (`podium sft`)
    sft/heldout_perplexity  sft/num_tokens
    time/<phase>_s  time/step_s    wall clock of the loop, seconds; what is sampled while a step is learned is left out,
                                   and a checkpoint's seconds are in the next row
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Phase = Literal["start", "sample", "judge", "learn", "sync", "evaluate", "save"]
"""What a run is doing. Judging overlaps sampling: `judge` is the part of it that outlasts the last rollout."""

PHASES: tuple[Phase, ...] = ("start", "sample", "judge", "learn", "sync", "evaluate", "save")


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase began; the one before it ended. `time_s` is a monotonic clock, good for differences only."""

    step: int
    phase: Phase
    time_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is. `total` None = not known. `rates` are per second, named by what they count: "tokens"."""

    phase: Phase
    done: int
    total: int | None
    unit: str
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing has happened in a phase for a while. `on` names the rollouts or matches that are out, if any are."""

    phase: Phase
    silent_s: float
    on: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step is complete: its weights are on the engines. Metrics are plain numbers; what is not known is absent."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know; `text` is one line."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class RunDone:
    """The run ended well. `summary` is what summary.json holds."""

    summary: Mapping[str, Any]


Event = PhaseStarted | Progress | Waiting | StepDone | Note | RunDone


class EventSink(Protocol):
    """Takes events in order, from one thread at a time. `close` may be called twice and after any event."""

    def handle(self, event: Event) -> None: ...
    def close(self) -> None: ...
