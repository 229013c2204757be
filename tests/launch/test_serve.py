"""`podium serve` as a process: it withstands schemathesis, and finishes what it accepted when it is told to go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from launch.serve import _url, serve
from recipes.reward import load_rewards
from rewards.cache import JudgeCache
from rewards.errors import UserError
from rewards.http_door import ServeLimits

ROOT = Path(__file__).resolve().parents[2]
GROUP = {"prompt": "p", "candidates": ["a", "ccc", "bb"]}


def recipe(folder: Path, judge: str, more: str = "") -> Path:
    path = folder / "rewards.yaml"
    path.write_text(
        "rewards:\n  kind: tournament\n"
        f"  judge: {{kind: python, target: 'tests.launch.reward_plugins:{judge}', verdict: hard, version: '1'}}\n{more}"
    )
    return path


@contextmanager
def podium_serve(path: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address and the process; it must not outlive the test."""
    command = [
        sys.executable,
        "-m",
        "launch.cli",
        "serve",
        str(path),
        "--port",
        "0",
        "--token-env",
        "TOKEN",
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": "open sesame"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "serving rewards on http://127.0.0.1:" in line, line + process.stderr.read()
        yield line.split()[-1], process
    finally:
        process.kill()
        process.wait(30)
        if process.stderr is not None:
            process.stderr.close()


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    # That two lists are as long as each other is more than JSON Schema can say; all other checks hold there too.
    unsaid = "".join(
        f'[[operations]]\ninclude-path = "{path}"\nchecks.positive_data_acceptance.enabled = false\n'
        for path in ("/v1/openrlhf", "/v1/groups/gather")
    )
    (tmp_path / "schemathesis.toml").write_text(unsaid)
    with podium_serve(recipe(tmp_path, "longer"), "--max-group", "6", "--gather-deadline-s", "0.01") as (url, process):
        command = [
            str(tool),
            "--config-file",
            "schemathesis.toml",
            "run",
            f"{url}/openapi.json",
            "-H",
            "Authorization: Bearer open sesame",
        ]
        options = ["--max-examples", "50", "--seed", "1", "--no-color", "--generation-database", "none"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, timeout=120)
        assert done.returncode == 0, done.stdout[-4000:]
        assert "6 passed" in done.stdout
        assert process.poll() is None


@pytest.mark.slow
def test_a_signal_lets_what_was_accepted_finish_and_keeps_the_verdicts(tmp_path: Path) -> None:
    cache = tmp_path / "verdicts.sqlite"
    path = recipe(tmp_path, "slow", f"  cache: {cache}\n  calls: {{max_concurrency: 2}}\n")  # 6 calls: 0.6 s
    replies: list[httpx.Response] = []
    headers = {"authorization": "Bearer open sesame"}

    def ask(url: str) -> None:
        replies.append(httpx.post(f"{url}/v1/groups/score", json=GROUP, headers=headers, timeout=60))

    with podium_serve(path) as (url, process):
        asking = threading.Thread(target=ask, args=(url,))
        asking.start()
        at_work = "podium_requests_at_work 2.0"  # the question for it is the other one
        while at_work not in httpx.get(f"{url}/metrics", headers=headers).text:
            pass
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert process.wait(30) == 0
    assert [reply.status_code for reply in replies] == [200]
    assert replies[0].json()["num_calls"] == 6
    kept = JudgeCache(cache)
    assert kept._reader.execute("SELECT count(*) FROM verdicts").fetchone() == (6,)
    kept._reader.close()
    kept._thread.shutdown()


def refused(path: Path, *, host: str = "127.0.0.1", port: int = 0, token_env: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        serve(load_rewards(path), host=host, port=port, token_env=token_env, limits=ServeLimits(), say=print)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path, "longer")
    assert "--host 0.0.0.0: others can reach it" in refused(path, host="0.0.0.0")
    assert "--token-env NOWHERE: the environment variable is not set" in refused(path, token_env="NOWHERE")
    monkeypatch.setenv("TOKEN", "  ")
    assert "is not set" in refused(path, token_env="TOKEN")
    monkeypatch.setenv("TOKEN", "sésame")
    assert "plain ASCII" in refused(path, token_env="TOKEN")
    monkeypatch.setenv("TOKEN", "open sesame")
    assert "--host a..b --port 0: cannot listen there (" in refused(path, host="a..b", token_env="TOKEN")
    assert "has no 'nobody'" in refused(recipe(tmp_path, "nobody"))
    gates = "  gates: [{kind: command, command: [no-such-tool]}]\n"
    assert "rewards.yaml: gate command: " in refused(recipe(tmp_path, "longer", gates))


def test_an_address_is_a_url_also_in_ipv6() -> None:
    assert (_url("127.0.0.1", 80), _url("::1", 80)) == ("http://127.0.0.1:80", "http://[::1]:80")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port}: cannot listen there (Address already in use)" in refused(
            recipe(tmp_path, "longer"), port=port
        )
