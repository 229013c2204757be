"""The walls around a command where the run is not root's: the same limits, in a user namespace."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ORDINARY = 12345
"""A user that is nobody on this machine."""


@pytest.fixture(scope="module")
def said() -> Iterator[dict[str, Any]]:
    """What a user without powers sees; a run that is root's becomes one."""
    who = _become()
    python = _interpreter(who)
    home = Path(tempfile.mkdtemp(prefix="podium-ordinary-"))
    try:
        theirs = home / "theirs"
        theirs.write_text("kept")
        if who:
            for path in (home, theirs):
                os.chown(path, ORDINARY, ORDINARY)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            module = "tests.rewards.gates.ordinary_user"
            done = _run([*who, python, "-m", module, str(theirs), port], JUDGE_API_KEY="secret", timeout_s=120.0)
        if "the gate refuses to start" in done.stderr:
            pytest.skip(f"this machine gives ordinary users no namespaces: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)
    finally:
        shutil.rmtree(home)


def _become() -> list[str]:
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root cannot become an ordinary user here: no program setpriv (util-linux)")
    # bash in between: setpriv itself would start a program with root's powers over files.
    become = ("setpriv", "--reuid", str(ORDINARY), "--regid", str(ORDINARY), "--clear-groups", "--")
    return [*become, "/bin/bash", "-c", 'exec "$@"', "bash"]


def _interpreter(who: list[str]) -> str:
    """A Python that may be run by that user and is as ours; ours may lie in root's home."""
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = os.pathsep.join(("/usr/local/bin", "/usr/bin"))
    for python in filter(None, (sys.executable, shutil.which(ours, path=path))):
        if _run([*who, python, "-c", "import pydantic, tests.rewards.gates.ordinary_user"]).returncode == 0:
            return python
    pytest.skip(f"no {ours} here that an ordinary user may run with podium's packages and {ROOT}")


def _run(argv: list[str], timeout_s: float = 60.0, **more: str) -> subprocess.CompletedProcess[str]:
    packages = os.pathsep.join((str(ROOT), sysconfig.get_paths()["purelib"]))
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1", **more}
    return subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, timeout=timeout_s, check=False)


def test_it_is_an_ordinary_user(said: dict[str, Any]) -> None:
    assert said["uid"] != 0


def test_exit_codes(said: dict[str, Any]) -> None:
    assert (said["passes"], said["fails"]) == (None, "exit code 3: no")


def test_time(said: dict[str, Any]) -> None:
    assert said["time"] == "took longer than 0.3 s"
    assert said["left running"] == []


def test_memory(said: dict[str, Any]) -> None:
    assert said["memory over"] is not None
    assert said["memory under"] is None


def test_file_size(said: dict[str, Any]) -> None:
    assert said["file over"] is not None
    assert said["file under"] is None
    assert said["printed over"] is not None


def test_processes(said: dict[str, Any]) -> None:
    assert "fork" in said["processes over"].lower()
    assert said["processes under"] is None


def test_network(said: dict[str, Any]) -> None:
    assert "refused" in said["network refused"] or "unreachable" in said["network refused"]
    assert said["network allowed"] is None


def test_the_users_own_files_are_read_only(said: dict[str, Any]) -> None:
    assert "Read-only file system" in said["own file"]
    assert "Read-only file system" in said["own file with network"]
    assert said["own file by remounting"] is not None
    assert said["kept"] == "kept"
    assert said["left folders"] == []


def test_neither_environment_nor_other_processes_are_seen(said: dict[str, Any]) -> None:
    assert (said["environment"], said["other processes"]) == (None, None)
