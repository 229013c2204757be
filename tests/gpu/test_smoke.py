"""Ten minutes on a machine with GPUs: `make test-gpu`. Written to be read: it has not been run on a GPU yet.

Each case of training is `podium train recipes/quickstart.yaml` for two steps in a process of its own, in bfloat16, with
every byte of every weight sync compared; it proves that this way of placing engines and ranks samples, learns and syncs
at all.

    ipc-colocated        1 GPU    engine and rank share it: the engine sleeps while the rank learns; weights by CUDA IPC
    nccl-separate        2 GPUs   one engine, one rank; weights by NCCL
    nccl-killed-engine   2 GPUs   the same, and in each step a process of the engine is killed and it is replaced
    nccl-two-engines     3 GPUs   two engines, one rank, ZeRO stage 3
    nccl-tensor-parallel 3 GPUs   one engine over two GPUs, one rank

What needs no learner runs on two GPUs too: `podium eval recipes/quickstart.yaml`, the model against itself, with one
engine over both GPUs (tensor-parallel) and with two engines.

Cases that need more GPUs than there are are skipped, by name. No win rate is asserted: two steps teach little. A GPU
with 16 GB is plenty for the quickstart's model of 135M parameters. The quickstart itself is `make quickstart
PLATFORM=gpu`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch.run_dir import RunDir
from recipes.load import load_recipe

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "quickstart.yaml"
MAX_GAP = 0.05
"""Nats per token between vLLM's and the learner's bfloat16 log-probabilities; a wrong tensor is far above."""

COMMON = [
    *["launch.device=cuda", "rl.num_steps=2", "rl.sync.verify_every=1", "rl.learner.dtype=bfloat16"],
    *["rollouts.engine.dtype=bfloat16", "evaluation.num_prompts=16", "evaluation.audit_judge=null"],
]
TRAINING: dict[str, tuple[int, list[str]]] = {
    "ipc-colocated": (
        1,
        ["rollouts.placement=colocated", "rollouts.engine.enable_sleep_mode=true", "rl.sync.backend=ipc"],
    ),
    "nccl-separate": (2, ["rollouts.placement=separate", "rl.sync.backend=nccl"]),
    "nccl-killed-engine": (2, ["rollouts.placement=separate", "rl.sync.backend=nccl"]),
    "nccl-two-engines": (3, ["rollouts.engines=2", "rl.sync.backend=nccl", "rl.learner.zero_stage=3"]),
    "nccl-tensor-parallel": (3, ["rollouts.engine.tensor_parallel_size=2", "rl.sync.backend=nccl"]),
}


EVALUATION: dict[str, list[str]] = {
    "tensor-parallel": ["rollouts.engine.tensor_parallel_size=2"],
    "two-engines": ["rollouts.engines=2"],
}


@pytest.mark.parametrize("overrides", [*(more for _, more in TRAINING.values()), *EVALUATION.values()])
def test_the_smokes_recipes_are_valid(overrides: list[str]) -> None:
    recipe = load_recipe(RECIPE, [*COMMON, *overrides]).recipe
    assert (recipe.launch.device, recipe.rl.num_steps) == ("cuda", 2)


@pytest.mark.gpu
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", TRAINING)
def test_two_steps(case: str, tmp_path: Path) -> None:
    num_gpus, overrides = TRAINING[case]
    chaos = ["--chaos", "kill=engine:1"] if case == "nccl-killed-engine" else []
    said = podium("train", case, num_gpus, overrides, tmp_path, *chaos)
    assert said.count("died and is replaced") == (2 if chaos else 0)
    (path,) = tmp_path.iterdir()
    rows = RunDir.open(path).metrics()
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert row["sync/verified"] == 1.0
        assert row["sync/logprob_gap"] < MAX_GAP, "vLLM and the learner disagree: a sync or a kernel is wrong"
    assert rows[-1]["heldout/win_rate"] >= 0.0


@pytest.mark.gpu
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", EVALUATION)
def test_the_model_meets_itself(case: str, tmp_path: Path) -> None:
    podium("eval", case, 2, EVALUATION[case], tmp_path)
    (path,) = tmp_path.iterdir()
    result = json.loads((path / "ladder.json").read_text())
    assert [player["name"] for player in result["players"]] == ["start", "start again"]
    assert result["num_prompts"] == 16


def podium(command: str, case: str, num_gpus: int, overrides: list[str], storage: Path, *more: str) -> str:
    """Runs it to its good end and returns what it printed; skips where there are too few GPUs."""
    import torch

    if torch.cuda.device_count() < num_gpus:
        pytest.skip(f"{case} needs {num_gpus} GPUs, {torch.cuda.device_count()} here")
    settings = [word for one in (*COMMON, *overrides, f"launch.storage={storage}") for word in ("--set", one)]
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", command, str(RECIPE), *settings, *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr
