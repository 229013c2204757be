"""A real run whose rollouts are a version old, with refills: whose weights sampled, and what the probe says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.whole_runs import RECIPE, only_run, settings, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

THRESHOLD = 0.84
"""About half of this run's groups are more reliable."""

OPTIONS = [
    "rl.staleness=1",
    f"rl.dynamic_sampling={{min_reliability: {THRESHOLD}, max_rounds: 1}}",
    "rl.objective.off_policy.weight=token",
    "tracking.wandb.mode=disabled",
]


def test_the_next_step_is_sampled_by_the_weights_before(tiny_model: Path, tmp_path: Path) -> None:
    start(["train", str(RECIPE), *settings(tiny_model, tmp_path / "runs", *OPTIONS)])
    run = only_run(tmp_path / "runs")
    rows = run.metrics()
    assert [row["step"] for row in rows] == run.checkpoints() == [1, 2, 3]
    for step, row in zip((1, 2, 3), rows, strict=True):
        groups, scores = run.load_groups(step)
        versions = {span.version for group in groups for r in group.rollouts if r is not None for span in r.versions}
        assert versions == {max(0, step - 2)}
        kept = [score.reliability is not None and score.reliability >= THRESHOLD for score in scores]
        refills = [f"step{step}-refill1-{slot}" for slot in range(kept[:2].count(False))]
        assert [group.key.group_id for group in groups] == [f"step{step}-0", f"step{step}-1", *refills]
        assert row["judge/num_calls"] == len(groups) * 6 * 2
        counts = [row[f"reward/num_groups_{what}"] for what in ("kept", "refilled", "given_up")]
        assert counts == [sum(kept), len(refills), 2 - sum(kept)]
        assert row["sync/logprob_gap"] < 1e-4  # the probe: engines hold the learner's weights
    learned = [row for row in rows if row["rl/skipped"] == 0.0]
    assert learned
    assert all(row["stale/mean_versions"] == (row["step"] > 1) for row in learned)
    steps = [row["step"] for row in learned]
    # Where the step before was learned, that lies between sampling and learning.
    assert all(row["stale/logprob_gap"] > 1e-2 for row in learned if row["step"] - 1 in steps)
