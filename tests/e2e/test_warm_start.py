"""A warm start as a user makes one: `podium sft`, killed and resumed. RL begins from one in test_slate.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.whole_runs import RECIPE, environment, only_run, podium, settings, start, weights_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ANSWER = "The river rose."
SECTION = "sft={data: %s, rows_per_step: 4, num_steps: 12, max_tokens: 64, heldout_share: 0.1, evaluate_every: 4, \
optimizer: {lr: 5e-3}, learner: {ranks: 2, dtype: float32}, checkpoint: {every: 4, keep: 3}}"


def test_a_killed_warm_start_ends_like_a_quiet_one(tiny_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "answers.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"Say {n}", "completion": ANSWER}) for n in range(20)))
    options = [SECTION % rows, "tracking.wandb.mode=disabled"]

    start(["sft", str(RECIPE), *settings(tiny_model, tmp_path / "quiet", *options)])
    quiet = only_run(tmp_path / "quiet")
    start(["sft", str(RECIPE), *settings(tiny_model, tmp_path / "runs", *options)], kill=("sft", 7))
    run = only_run(tmp_path / "runs")
    assert run.checkpoints() == [4]
    refused = subprocess.run(
        podium("train", "--resume", str(run.path)), env=environment(), capture_output=True, text=True, timeout=120
    )
    assert refused.returncode == 2
    assert "go on with podium sft --resume" in refused.stderr
    start(["sft", "--resume", str(run.path)])

    assert [row["step"] for row in run.metrics()] == list(range(1, 13))
    assert run.checkpoints() == [4, 8, 12]
    assert weights_of(run, 12) == weights_of(quiet, 12)
    summary = run.summary()
    assert summary is not None
    assert summary["heldout_loss"]["after"] < 0.5 < 2 < summary["heldout_loss"]["before"]
    assert (run.path / "report.html").stat().st_size > 1000
