"""Commands under limits: what util-linux and the kernel can do without a daemon.

    unshare       own network (no way out), own process tree (what is left of it dies with it), own /proc
    read_only.py  all files read-only but those of the working folder
    setpriv       no capabilities; where we are root, the command is user nobody
    prlimit       address space, file size, processes, open files, CPU seconds, no core dumps
    command

A machine allows all of that or the gate refuses to start; only a command that may use the network runs under the limits
alone where the machine allows no more. The wall clock is watched by whoever runs the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rewards.errors import UserError

NOBODY = 65534
MAX_OPEN_FILES = 256
PROBE_TIMEOUT_S = 10.0
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Limits:
    cpu_s: int
    memory_mib: int
    max_file_mib: int
    max_processes: int


def walls(*, network: bool, as_nobody: bool) -> tuple[str, ...]:
    """The command line that goes before the limits.

    Args:
        network: the command may use it. as_nobody: a root run hands the command to user nobody.

    Raises:
        UserError: no unshare, setpriv or prlimit here, or the machine does not let us build the walls.
    """
    for tool in ("unshare", "prlimit", "setpriv"):
        if shutil.which(tool) is None:
            raise UserError(f"no program {tool!r} to run commands under limits; install util-linux (Linux only)")
    return _walls(network, as_nobody, os.geteuid())


@lru_cache(maxsize=8)
def _walls(network: bool, as_nobody: bool, uid: int) -> tuple[str, ...]:
    said = ""
    for wall in _candidates(network, as_nobody, uid):
        probe = _run_once([*wall, "true"])
        if probe.returncode == 0:
            return wall
        said = said or (probe.stderr.strip().splitlines() or [f"exit code {probe.returncode}"])[-1]
    raise UserError(f"this machine does not let a command be cut off from network and files ({said})")


def _candidates(network: bool, as_nobody: bool, uid: int) -> list[tuple[str, ...]]:
    net = () if network else ("--net",)
    tree = ("--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--")
    read_only = (sys.executable, "-I", "-S", str(Path(__file__).with_name("read_only.py")))
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    nobody = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    if uid != 0:
        full = [("unshare", "--user", "--map-root-user", *net, *tree, *read_only, *powerless, "--")]
        plain = ("setpriv", "--no-new-privs", "--")
    elif as_nobody:
        # With a user namespace of its own a command's processes are counted apart from those of other commands.
        apart = ("unshare", "--user", "--map-current-user", "--")
        full = [("unshare", *net, *tree, *read_only, *powerless, *nobody, "--", *more) for more in (apart, ())]
        plain = (*powerless, *nobody, "--")
    else:
        full, plain = [("unshare", *net, *tree, *read_only, *powerless, "--")], (*powerless, "--")
    return [*full, plain] if network else full


def _run_once(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    folder = tempfile.gettempdir()
    return subprocess.run(argv, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False, cwd=folder)


def limited(wall: Sequence[str], limits: Limits, command: Sequence[str]) -> list[str]:
    """The whole command line."""
    return [
        *wall,
        "prlimit",
        f"--cpu={limits.cpu_s}",
        f"--as={limits.memory_mib * MIB}",
        f"--fsize={limits.max_file_mib * MIB}",
        f"--nproc={limits.max_processes}",
        f"--nofile={MAX_OPEN_FILES}",
        "--core=0",
        "--",
        *command,
    ]


def program_of(name: str, wall: Sequence[str]) -> str:
    """The program's absolute path.

    Raises:
        UserError: there is none, or whoever stands behind the wall may not run it.
    """
    found = shutil.which(name)
    if found is None:
        raise UserError(f"no program {name!r} on PATH; install it, or give its path")
    path = os.path.abspath(found)
    if _run_once([*wall, "test", "-x", path]).returncode != 0:
        raise UserError(
            f"user nobody may not run {path}; install it where everybody may read it, or set run_as to same"
        )
    return path
