"""A warm start as a user makes one: `podium sft`, killed and resumed, then `podium train` with LoRA from there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_killed_driver import start, the_run, weights_of
from tests.e2e.test_loop import RECIPE, environment, podium, settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ANSWER = "The river rose."
SECTION = "sft={data: %s, rows_per_step: 4, num_steps: 12, max_tokens: 64, heldout_share: 0.1, evaluate_every: 4, \
optimizer: {lr: 5e-3}, learner: {ranks: 2, dtype: float32}, checkpoint: {every: 4, keep: 3}}"


def test_a_killed_warm_start_ends_like_a_quiet_one_and_rl_begins_there(tiny_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "answers.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"Say {n}", "completion": ANSWER}) for n in range(20)))
    options = [SECTION % rows, "tracking.wandb.mode=disabled"]

    start(["sft", str(RECIPE), *settings(tiny_model, tmp_path / "quiet", *options)], mark="sft")
    quiet = the_run(tmp_path / "quiet")
    start(["sft", str(RECIPE), *settings(tiny_model, tmp_path / "runs", *options)], mark="sft", kill=("sft", 7))
    run = the_run(tmp_path / "runs")
    assert run.checkpoints() == [4]
    refused = subprocess.run(
        podium("train", "--resume", str(run.path)), env=environment(), capture_output=True, text=True, timeout=120
    )
    assert refused.returncode == 2
    assert "go on with podium sft --resume" in refused.stderr
    start(["sft", "--resume", str(run.path)], mark="sft")

    assert [row["step"] for row in run.metrics()] == list(range(1, 13))
    assert run.checkpoints() == [4, 8, 12]
    assert weights_of(run, 12) == weights_of(quiet, 12)
    summary = run.summary()
    assert summary is not None
    assert summary["heldout_loss"]["after"] < 0.5 < 2 < summary["heldout_loss"]["before"]
    assert (run.path / "report.html").stat().st_size > 1000

    trained = tmp_path / "trained"
    rl = ["rl.num_steps=2", "rl.objective.kl_coef=0.1", "rl.learner.lora={rank: 4, alpha: 8}"]
    rl += [f"rl.init_from={run.path}", "tracking.wandb.mode=disabled"]
    start(["train", str(RECIPE), *settings(tiny_model, trained, *rl)], mark="warm")
    after = the_run(trained)
    assert after.recipe()["rl"]["init_from"] == str(run.checkpoint_path(12) / "hf")
    first, second = after.metrics()
    assert first["sync/logprob_gap"] < 1e-4  # engines and learner hold the same start
    assert first["rl/kl"] == pytest.approx(0.0, abs=1e-9)  # and so does the reference, the base without adapters
    assert second["sync/logprob_gap"] < 1e-4  # the engines got the adapters merged
    assert second["rl/kl"] > 1e-6
    answers = after.load_start_answers()
    assert answers is not None
    texts = [rollout.text for group in answers for rollout in group.rollouts if rollout is not None]
    assert sum(ANSWER.startswith(text[:9]) for text in texts) >= len(texts) / 2
