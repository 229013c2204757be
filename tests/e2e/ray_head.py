"""A Ray head of our own, with token authentication, and what a user submits to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ("rl", "rewards", "rollouts", "recipes", "launch")
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def ray_head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray head with its job server; ends every process that it started, by id."""
    token = tmp_path / "token"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PATH": f"{BIN}:{env['PATH']}"}
    token.write_text("0123456789abcdef" * 4)
    temp = tempfile.mkdtemp(prefix="podium-ray-")  # short: it holds Unix sockets, whose paths may not be long
    port, dashboard = free_port(), free_port()
    before = {process.pid for process in psutil.process_iter()}
    command = [str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
    # The agent that starts jobs has a fixed port by default, which the Ray of the other tests may hold.
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    command += ["--num-cpus=2", "--object-store-memory=268435456", f"--temp-dir={temp}"]
    daemon = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{dashboard}", env
    finally:
        started = [psutil.Process(daemon.pid), *psutil.Process(daemon.pid).children(recursive=True)]
        daemon.terminate()
        _, alive = psutil.wait_procs(started, timeout=30)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=10)
        shutil.rmtree(temp, ignore_errors=True)
        left = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and temp in str(p.info)]
        assert left == []


def working_dir(tmp_path: Path, model: Path, storage: Path) -> Path:
    """What a user has in the folder that is submitted: the packages, a recipe, its prompts and a judge of their own."""
    folder = tmp_path / "submitted"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    data = Path(__file__).parent / "data"
    recipe = yaml.safe_load((data / "tiny.yaml").read_text())
    recipe["model"]["path"] = str(model)
    recipe["rewards"]["judge"]["target"] = "my_judge:more_vowels"
    recipe["tracking"]["wandb"]["mode"] = "disabled"
    recipe["launch"]["storage"] = str(storage)
    (folder / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copy(data / "prompts.jsonl", folder / "recipes")
    shutil.copy(Path(__file__).parent / "judges.py", folder / "my_judge.py")
    return folder


def submit(
    address: str, env: dict[str, str], folder: Path, *command: str, patience_s: float = 180.0
) -> subprocess.CompletedProcess[str]:
    """`ray job submit --working-dir folder -- command`; for so long the head may not be ready for jobs."""
    words = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--", *command]
    # The job server answers some seconds after the head, and its agent, which starts the job, some seconds after that.
    deadline = time.monotonic() + patience_s
    while True:
        done = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=600)
        said = done.stdout + done.stderr
        not_ready = "No available agent" in said or "Failed to connect to Ray" in said
        if done.returncode == 0 or not not_ready or time.monotonic() > deadline:
            return done
        time.sleep(2)
