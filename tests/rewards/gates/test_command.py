"""Commands under limits; real processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards.errors import UserError
from rewards.gates import build_gates
from rewards.gates.sandbox import walls
from rewards.types import Candidate, Prompt
from tests.rewards.gates.asking import hard, settled
from tests.rewards.gates.test_contract import config_of


def _walls_here() -> str | None:
    """Why this machine lets no command be cut off, or None."""
    try:
        walls(network=False, as_nobody=True)
    except UserError as error:
        return str(error)
    return None


pytestmark = pytest.mark.skipif(_walls_here() is not None, reason=str(_walls_here()))


def shell(script: str, **settings: Any) -> str | None:
    return hard(config_of("command", command=["bash", "-c", script], **settings), "the answer")


@pytest.fixture(autouse=True)
def _leaves_no_folder():
    """Every folder that a command ran in is gone at the end."""
    before = set(Path(tempfile.gettempdir()).glob("podium-gate-*"))
    yield
    assert set(Path(tempfile.gettempdir()).glob("podium-gate-*")) <= before


def test_exit_codes_and_last_words() -> None:
    assert shell("true") is None
    assert shell("echo starting; echo 2 tests failed >&2; exit 3") == "exit code 3: 2 tests failed"
    assert shell("exit 1") == "exit code 1"


def test_it_sees_the_answer_and_the_fields_it_is_given() -> None:
    prompt = Prompt("p", "t", fields={"tests": "42"})
    config = config_of(
        "command",
        command=["cmp", "a.py", "test_a.py"],
        answer_file="a.py",
        fenced=True,
        field_files={"test_a.py": "tests"},
    )
    assert (
        hard(config, "```python\n42\n```", prompt) is not None
    )  # The fence ends with a line break, the field has none.
    assert hard(config, "42", prompt) is None
    with pytest.raises(UserError, match="gate command: prompt p has no field 'tests'"):
        hard(config, "42", Prompt("p", "t"))


def test_it_does_not_see_the_environment_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "secret")
    assert (
        shell('test -z "$JUDGE_API_KEY" && test "$MODE" = fast && test "$HOME" = "$PWD"', env={"MODE": "fast"}) is None
    )


def test_it_does_not_see_other_processes() -> None:
    assert shell(f"test ! -e /proc/{os.getpid()}/environ || ! cat /proc/{os.getpid()}/environ") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over to nobody")
def test_root_hands_over_to_nobody() -> None:
    assert shell('test "$(id -u)" = 65534') is None
    assert shell('test "$(id -u)" = 0', run_as="same") is None


def test_time() -> None:
    nap = f"61.{os.getpid()}"
    assert shell(f"setsid sleep {nap} & sleep {nap}", timeout_s=0.3) == "took longer than 0.3 s"
    assert not _running(nap)


def test_what_a_command_leaves_behind_is_killed() -> None:
    nap = f"62.{os.getpid()}"
    assert shell(f"setsid sleep {nap} >/dev/null 2>&1 & exit 0") is None
    assert not _running(nap)


def test_memory() -> None:
    hungry = 'x=$(head -c 40000000 /dev/zero | tr "\\0" a); echo ${#x}'
    assert shell(hungry, memory_mib=32) is not None
    assert shell(hungry, memory_mib=4096) is None


def test_file_size() -> None:
    assert shell("head -c 3000000 /dev/zero > big", max_file_mib=1) is not None
    assert shell("head -c 3000000 /dev/zero > big", max_file_mib=4) is None
    assert shell("head -c 3000000 /dev/zero", max_file_mib=1) is not None  # What it prints is a file too.


def test_processes() -> None:
    many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.3 & done; wait"
    config = {"command": ["sh", "-c", many], "timeout_s": 5.0}
    assert "fork" in str(hard(config_of("command", max_processes=6, **config), "")).lower()
    assert hard(config_of("command", max_processes=64, **config), "") is None


def test_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5.0)
        script = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
        assert "refused" in str(shell(script)) or "unreachable" in str(shell(script))
        accepted = threading.Thread(target=lambda: server.accept()[0].close())
        accepted.start()
        assert shell(script, network="allowed") is None
        accepted.join()


async def test_cancelled_commands_are_gone() -> None:
    nap = f"63.{os.getpid()}"
    (gate,) = build_gates([config_of("command", command=["sleep", nap])])
    checking = asyncio.create_task(settled(gate, Candidate("c", "")))
    while not _running(nap):
        await asyncio.sleep(0.01)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    assert not _running(nap)


async def test_so_many_at_once_and_no_more() -> None:
    nap = f"0.1{os.getpid()}"
    (gate,) = build_gates([config_of("command", command=["sleep", nap], max_concurrency=2)])
    checking = asyncio.gather(*(settled(gate, Candidate("c", "")) for _ in range(5)))
    most = 0
    while not checking.done():
        await asyncio.sleep(0.005)
        most = max(most, sum(Path(argv[0]).name == "sleep" for argv in _argvs() if nap in argv))
    assert most == 2
    assert checking.result() == [None] * 5


def test_files_elsewhere_are_read_only(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("kept")
    theirs.chmod(0o666)
    for run_as in ("nobody", "same"):
        said = shell(f"echo mine > here && cat here && echo gone > {theirs}", run_as=run_as)
        assert said is not None
        assert "Read-only file system" in said or "Permission denied" in said
        assert shell("mount -o remount,rw /", run_as=run_as) is not None
    assert theirs.read_text() == "kept"


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(UserError, match="gate command: no program 'no-such-tool' on PATH"):
        build_gates([config_of("command", command=["no-such-tool"])])


def test_an_answer_cannot_pass_for_a_broken_set_up() -> None:
    assert shell("exec /no/such/interpreter") is not None
    assert shell("exit 127") == "exit code 127"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over to nobody")
def test_a_program_that_nobody_may_not_run(tmp_path: Path) -> None:
    program = tmp_path / "mine"
    shutil.copy("/bin/true", program)
    program.chmod(0o700)
    with pytest.raises(UserError, match=r"user nobody may not run .*/mine; .*run_as to same"):
        build_gates([config_of("command", command=[str(program)])])
    build_gates([config_of("command", command=[str(program)], run_as="same")])


def test_a_machine_that_does_not_cut_off_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rewards.gates import sandbox

    fake = tmp_path / "unshare"
    fake.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox._walls.cache_clear()
    try:
        with pytest.raises(UserError, match=r"gate command: .*Operation not permitted.*set network to allowed"):
            build_gates([config_of("command", command=["true"])])
        assert "unshare" not in walls(network=True, as_nobody=True)
        assert hard(config_of("command", command=["true"], network="allowed"), "") is None
        nap = f"64.{os.getpid()}"  # Without a tree of its own, the session is killed.
        slow = config_of(
            "command", command=["bash", "-c", f"sleep {nap} & sleep {nap}"], network="allowed", timeout_s=0.2
        )
        assert hard(slow, "") == "took longer than 0.2 s"
        for _ in range(1000):  # killed, which a busy machine carries out when it comes to it
            if not _running(nap):
                break
            time.sleep(0.01)
        assert not _running(nap)
    finally:
        sandbox._walls.cache_clear()


def test_without_util_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"gate command: no program 'unshare'.*install util-linux"):
        build_gates([config_of("command", command=["true"])])


def _running(argument: str) -> bool:
    """Whether a process has this among its arguments, zombies aside."""
    return any(argument in argv for argv in _argvs())


def _argvs() -> Iterator[list[str]]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_text("utf-8", "replace").split("\0")
        except OSError:
            continue
