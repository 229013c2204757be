"""What makes a run directory one of `podium sft`: `sft.json`, with the digest of the rows it learns from."""

from __future__ import annotations

import json

from launch import atomic
from launch.run_dir import RunDir
from launch.sft_data import SFTData
from rewards.errors import UserError

MARK = "sft.json"


def mark_sft_run(run: RunDir, data: SFTData, *, num_steps: int) -> None:
    """Write down what is learned from."""
    facts = {
        "digest": data.digest,
        "num_rows": len(data.train),
        "num_heldout": len(data.heldout),
        "num_skipped": data.num_skipped,
        "num_steps": num_steps,
    }
    atomic.write_bytes(run.path / MARK, (json.dumps(facts, indent=2) + "\n").encode())


def check_resumed(run: RunDir, data: SFTData, *, num_steps: int) -> None:
    """Raises UserError where the run cannot go on as it began: its rows or its number of steps are others now."""
    path = run.path / MARK
    if not path.is_file():
        raise UserError(f"{run.path} is no run of podium sft; go on with podium train --resume {run.path}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        digest, steps = facts["digest"], facts["num_steps"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); start a new run") from error
    if digest != data.digest:
        raise UserError(f"{run.path}: the rows of sft.data have changed since; restore the file or start a new run")
    if steps != num_steps:
        raise UserError(f"{run.path} has {steps} steps, these settings make {num_steps}; start a new run")


def refuse_sft_run(run: RunDir) -> None:
    """Raises UserError if `podium train` is asked to go on with a run of `podium sft`."""
    if (run.path / MARK).exists():
        raise UserError(
            f"{run.path} is a run of podium sft; go on with podium sft --resume, or train from it: rl.init_from"
        )
