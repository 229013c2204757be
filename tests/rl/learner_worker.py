"""Learner ranks as plain processes: `run_ranks` starts them, each runs one function of this module's callers."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ranks(function: Callable[..., Any], *args: Any, folder: Path, world_size: int = 1) -> list[Any]:
    """function(rank, world_size, port, *args) in one fresh process per rank; their results, in order of ranks."""
    port = free_port()
    call = folder / "call.pickle"
    call.write_bytes(pickle.dumps((function.__module__, function.__qualname__, world_size, port, args)))
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.rl.learner_worker", str(call), str(rank)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [rank.communicate(timeout=240)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, output in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, output[-5000:]
    return [pickle.loads((folder / f"result_{rank}.pickle").read_bytes()) for rank in range(world_size)]


def main() -> None:
    call, rank = Path(sys.argv[1]), int(sys.argv[2])
    module, name, world_size, port, args = pickle.loads(call.read_bytes())
    __import__(module)
    function = getattr(sys.modules[module], name)
    result = function(rank, world_size, port, *args)
    call.with_name(f"result_{rank}.pickle").write_bytes(pickle.dumps(result))
    # As Ray ends an actor: gloo's threads may still run, and C++ aborts where they outlive their libraries.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
