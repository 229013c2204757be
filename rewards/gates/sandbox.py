"""Commands under limits: what util-linux can do without a daemon.

    setpriv    where we are root: the command is user nobody
    unshare    own network (no way out), own process tree (what is left of it dies with it), own /proc, own user
               namespace, so that its processes are counted apart
    prlimit    address space, file size, processes, open files, CPU seconds, no core dumps
    command

`Walls` says how much of that a machine allows: it is tried out once. The wall clock is watched by whoever runs the
command; killing the session kills unshare, whose child is killed with it, and that is process 1 of the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    """The command line that goes before the limits, as strict as this machine allows.

    Args:
        network: the command may use it. as_nobody: a root run hands the command to user nobody.

    Raises:
        UserError: no unshare, setpriv or prlimit here, or the machine does not let us cut off the network.
    """
    for tool in ("unshare", "prlimit", "setpriv"):
        if shutil.which(tool) is None:
            raise UserError(f"no program {tool!r} to run commands under limits; install util-linux (Linux only)")
    return _walls(network, as_nobody, os.geteuid())


@lru_cache(maxsize=8)
def _walls(network: bool, as_nobody: bool, uid: int) -> tuple[str, ...]:
    hand_over = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    calm = ("setpriv", "--no-new-privs", "--")
    net = () if network else ("--net",)
    tree = ("--pid", "--fork", "--kill-child=KILL", "--mount-proc")
    own_user = ("--user", "--map-current-user")
    if uid == 0 and as_nobody:
        tried = [
            (*hand_over, "--", "unshare", *own_user, *net, *tree, "--", *calm),
            ("unshare", *net, *tree, "--", *hand_over, *calm[1:]),
            ("unshare", *net, "--", *hand_over, *calm[1:]) if net else (*hand_over, *calm[1:]),
        ]
    else:
        user = () if uid == 0 else own_user
        tried = [("unshare", *user, *net, *tree, "--", *calm), ("unshare", *user, *net, "--", *calm) if net else calm]
    said = ""
    for wall in tried:
        probe = subprocess.run([*wall, "true"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
        if probe.returncode == 0:
            return wall
        said = probe.stderr.strip().splitlines()[-1] if probe.stderr.strip() else f"exit code {probe.returncode}"
    raise UserError(f"this machine does not let a command be cut off from the network ({said})")


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
    probe = subprocess.run([*wall, "test", "-x", path], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    if probe.returncode != 0:
        raise UserError(
            f"user nobody may not run {path}; install it where everybody may read it, or set run_as to same"
        )
    return path
