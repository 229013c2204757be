"""What stops a run before it does harm, and what skips an update: whole runs on the session's engine.

The engine is real and the faults are: other weights in it than a sync says, a judge that cannot tell a step's answers
apart, a log-probability that is not a number.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from launch.run_dir import RunDir
from tests.e2e.conftest import Stage
from tests.e2e.on_stage import lend
from tests.e2e.whole_runs import RECIPE, only_run, settings, start, weights_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

OPTIONS = (
    "tracking.wandb.mode=disabled",
    "rewards.judge={kind: python, target: 'tests.e2e.judges:level_in_step_2', verdict: hard}",
    "rl.min_batch_reliability=0.01",
    "rl.objective={kind: grpo, off_policy: {weight: token}}",  # reads the engine's log-probabilities
)
SET_ASIDE = "warning: step 3: a resumed run samples it again; its groups are groups/step_000003.rejected.parquet"


def test_a_step_that_cannot_be_trusted_is_not_learned_from(stage: Stage, tiny_model: Path, tmp_path: Path) -> None:
    with lend(stage.pool.handles) as lent:
        # Nothing can be told apart in step 2; step 3 is sampled by engines that lost the weights of the last sync.
        stopped = start(
            ["train", str(RECIPE), *settings(tiny_model, tmp_path, *OPTIONS)], kill=("weights", 3), code=1, lent=lent
        )
        run = only_run(tmp_path)
        assert "warning: step 2: no update, batch reliability 0.000 is under 0.01" in stopped.stderr
        first, second = run.metrics()
        assert [first["rl/skipped"], second["rl/skipped"]] == [0.0, 1.0]
        assert "rl/loss" not in second
        assert weights_of(run, 2) == weights_of(run, 1)
        assert SET_ASIDE in stopped.stderr
        line = last_line(stopped)
        assert (found := re.match(r"step 3: learner and engines differ by (\S+) nats per sampled token, more ", line))
        assert float(found[1]) > 0.2
        assert "nothing was saved" in line
        assert_is_at(run, stage, step=2)

        # Resumed, the engines have sound weights again, but one of them gives a number that is none.
        resume = ["train", "--resume", str(run.path)]
        stopped = start(resume, kill=("nan", 3), code=1, lent=lent)
        assert SET_ASIDE in stopped.stderr
        assert last_line(stopped).startswith(
            "step 3: the loss is nan; weights were not changed and nothing was saved. Look for"
        )
        assert_is_at(run, stage, step=2)

        start(resume, lent=lent)
        assert_is_at(run, stage, step=3)
        third = run.metrics()[2]
        assert (third["rl/skipped"], third["sync/logprob_gap"] < 1e-4) == (0.0, True)
        assert weights_of(run, 3) != weights_of(run, 2)
        state = json.loads((run.checkpoint_path(3) / "state.json").read_text())
        assert state["num_steps_done"] == 2
        assert run.summary() is not None


def last_line(stopped: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in stopped.stderr
    return stopped.stderr.strip().splitlines()[-1]


def assert_is_at(run: RunDir, stage: Stage, step: int) -> None:
    """Groups, metrics, checkpoints and the engine's version: all of `step`, nothing of a later one."""
    done = list(range(1, step + 1))
    assert run.checkpoints() == run.steps("groups") == done
    assert [row["step"] for row in run.metrics()] == done
    assert stage.run(stage.pool.versions()) == [step]
