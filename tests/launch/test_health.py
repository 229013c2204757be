"""Health figures of a step, and what they come to over a run."""

from __future__ import annotations

import numpy as np
import pytest

from launch.health import health_totals, run_health, step_health
from rewards.alarms import FIGURES, JudgeAlarm
from rewards.diagnostics.style import STYLE_FEATURES
from rewards.types import Audit, Call, GroupKey, GroupScore, KnownAnswer, Match, Pairing, Prompt, Verdict
from rollouts.types import Group, Rollout, Turn, VersionSpan

KEY = GroupKey("g")
TEXTS = ("# One\n\n- **a**\n\n```\nb\n```", "plain words here", "- two\n- three", "# four **bold** words of it")


def group() -> Group:
    def rollout(index: int, text: str) -> Rollout:
        n = len(text)
        zeros = np.zeros(n, dtype=np.float32)
        return Rollout(
            key=KEY,
            index=index,
            seed=index,
            token_ids=np.arange(n, dtype=np.int32),
            logprobs=zeros,
            loss_mask=np.ones(n, dtype=np.bool_),
            text=text,
            finish_reason="stop",
            versions=(VersionSpan(0, 0, n),),
            turns=(Turn("assistant", 0, n),),
        )

    rollouts = (*(rollout(index, text) for index, text in enumerate(TEXTS)), None)
    return Group(KEY, Prompt("p", "task"), np.arange(2, dtype=np.int32), rollouts)


def score() -> GroupScore:
    """Two judges that differ about one pair; a circle of three."""
    wins = {(0, 1): 1.0, (1, 2): 1.0, (0, 2): 0.0, (0, 3): 1.0, (1, 3): 1.0, (2, 3): 1.0}

    def match(a: int, b: int, value: float, *judges: str) -> Match:
        calls = tuple(
            Call(x, y, Verdict(v), judge) for judge in judges for x, y, v in ((a, b, value), (b, a, 1 - value))
        )
        return Match(Pairing(a, b), calls)

    differs = match(0, 1, 1.0, "one").calls + match(0, 1, 0.5, "two").calls
    matches = [match(a, b, value, "one", "two") for (a, b), value in wins.items() if (a, b) != (0, 1)]
    return GroupScore(
        rewards=[0.9, 0.6, 0.4, 0.1, None],
        reliability=0.5,
        matches=(Match(Pairing(0, 1), differs), *matches),
        kind="hard",
        num_calls=24,
        audit=Audit("hard", (match(0, 1, 1.0, "second"), match(2, 3, 0.0, "second"))),
        known_answers=(KnownAnswer("one", 1.0), KnownAnswer("two", 0.0)),
    )


def test_every_figure_that_an_alarm_is_about_is_there_with_its_interval() -> None:
    metrics = step_health([group(), group()], [score(), score()])
    assert metrics["judge/circular_triad_rate"] == 0.25
    assert metrics["judge/audit_agreement"] == 0.5
    assert metrics["judge/calibration_accuracy"] == 0.5
    assert metrics["judge/one/calibration_accuracy"] == 1.0
    assert metrics["judge/one/num_calls"] == 24.0
    wanted = {metric for figure in FIGURES.values() for metric in figure.metrics} - {"reward/reliability"}
    # Four rollouts cannot tell all features apart; what they can is there.
    partial = {f"reward/style_{name}_partial_correlation" for name in STYLE_FEATURES}
    assert wanted - partial <= metrics.keys()
    for name in wanted & metrics.keys():
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    plain = {f"reward/style_{name}_correlation" for name in STYLE_FEATURES}
    assert plain <= metrics.keys()


@pytest.mark.parametrize("rewards", [[0.1, 0.7, 0.3, 0.9, None], [1.0] * 4 + [None], [None] * 5])
def test_rewards_without_matches_have_what_can_be_said_of_them(rewards: list[float | None]) -> None:
    metrics = step_health([group()], [GroupScore(rewards)])
    assert metrics["judge/num_calls"] == 0.0
    correlations = {name for name in metrics if name.startswith("reward/")}
    assert ("reward/length_correlation" in correlations) == (rewards[0] == 0.1)
    assert set(metrics) == {"judge/num_calls"} | correlations
    assert step_health([], []) == {"judge/num_calls": 0.0}


def test_a_run_is_the_mean_of_its_steps_weighed_by_what_they_asked() -> None:
    rows = [
        figures(1, flip=0.2, agreement=1.0, audited=1.0),
        figures(2, flip=0.4, agreement=0.5, audited=9.0),
        {"step": 3, "judge/num_calls": 5.0},
    ]
    health = run_health(rows)
    assert health["judge/order_flip_rate"]["value"] == pytest.approx(0.3)
    assert health["judge/order_flip_rate"]["num_steps"] == 2
    assert (health["judge/order_flip_rate"]["low"], health["judge/order_flip_rate"]["high"]) == (0.2, 0.4)
    assert health["judge/audit_agreement"]["value"] == pytest.approx((1.0 + 4.5) / 10)
    assert health["reward/length_correlation"] == {"value": -0.5, "low": -0.5, "high": -0.5, "num_steps": 2}
    assert set(health) == {"judge/order_flip_rate", "judge/audit_agreement", "reward/length_correlation"}
    alarms = (
        JudgeAlarm(max_order_flip_rate=0.25, min_audit_agreement=0.5),
        JudgeAlarm(max_order_flip_rate=0.25, ring_on="interval"),
        JudgeAlarm(min_reliability=0.5),
    )
    totals = health_totals([*rows, {"step": 4, "reward/reliability": 0.4}], alarms)
    assert totals["judge_health"]["reward/reliability"]["value"] == 0.4
    assert totals["judge_alarms"] == [
        "judge/order_flip_rate 0.300 is over max_order_flip_rate = 0.25",
        "reward/reliability 0.400 is under min_reliability = 0.5",
    ]
    alone = run_health(rows[:1])
    assert (alone["reward/length_correlation"]["low"], alone["reward/length_correlation"]["high"]) == (-1.0, 1.0)
    assert run_health([]) == run_health(rows[2:]) == {}


def figures(step: int, *, flip: float, agreement: float, audited: float) -> dict[str, float]:
    values = {"judge/order_flip_rate": flip, "judge/audit_agreement": agreement, "reward/length_correlation": -0.5}
    ends = {f"{name}_{end}": value for name, value in values.items() for end in ("low", "high")}
    heldout = {"heldout/ci95_low": 0.1}
    return {"step": step, "judge/num_audited": audited, **values, **ends, **heldout}
