"""TRL's own GRPOTrainer, two steps on a tiny random model in two processes that share each group. With trl installed:

PYTHONPATH=. python tests/peers/trl_peer.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportMissingImports]

from rewards.adapters.trl import TrlReward
from rollouts.tiny import build_tiny_model
from tests.rewards.serving import served, serving

PROMPTS = ["Say something long", "Say anything", "Say it again", "Say it well"]


def train(model: str, url: str) -> None:
    """One of the two processes: it sees two of a group's four completions."""
    seen: list[list[float | None]] = []

    class Watched(TrlReward):
        def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[float | None]:
            seen.append(super().__call__(prompts, completions, **columns))
            return seen[-1]

    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[Watched(url, num_generations=4)],
        args=GRPOConfig(
            output_dir=model,
            num_generations=4,
            per_device_train_batch_size=2,
            max_completion_length=8,
            max_steps=2,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
    )
    trainer.train()
    assert [len(rewards) for rewards in seen] == [2, 2], seen
    means = [row["rewards/podium/mean"] for row in trainer.state.log_history if "rewards/podium/mean" in row]
    # Win rates of a whole group have mean one half; those of its halves, ranked each for itself, would have it too,
    # but then each half would hold a winner and a loser: 1 and 0.
    assert all(abs(float(mean) - 0.5) < 1e-6 for mean in means), means
    # A file each: on a shared pipe the lines of two processes can run into one another.
    Path(model).with_name(f"rewards_{os.environ['RANK']}.json").write_text(json.dumps(seen), encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(served()) as (url, _):
        model = build_tiny_model(Path(folder) / "model")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        done = subprocess.run(
            [*launcher, __file__, str(model), url], capture_output=True, text=True, timeout=240, check=False
        )
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
        rewards = [json.loads((Path(folder) / f"rewards_{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    for rank, steps in enumerate(rewards):
        print(f"trl: process {rank}, rewards {steps}")
    values = [value for steps in rewards for step in steps for value in step]
    assert any(0.0 < value < 1.0 and value != 0.5 for value in values), "thirds: all four were ranked together"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(*sys.argv[1:])
    else:
        main()
