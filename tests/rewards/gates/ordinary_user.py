"""Run as a program, by a user without powers: puts commands behind the gate and prints what became of each, as JSON.

python -m tests.rewards.gates.ordinary_user THEIRS PORT      a file of that user's own; a port somebody listens at
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rewards.errors import UserError
from tests.rewards.gates.asking import hard
from tests.rewards.gates.test_contract import config_of

HUNGRY = 'x=$(head -c 40000000 /dev/zero | tr "\\0" a); echo ${#x}'
MANY = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.3 & done; wait"


def main(theirs: Path, port: int) -> None:
    nap = f"65.{os.getpid()}"
    connect = f"exec 3<>/dev/tcp/127.0.0.1/{port}"

    def shell(script: str, **settings: Any) -> str | None:
        return hard(config_of("command", command=["bash", "-c", script], **settings), "the answer")

    said = {
        "uid": os.getuid(),
        "passes": shell("grep -q 'the answer' answer.txt"),
        "fails": shell("echo no >&2; exit 3"),
        "time": shell(f"setsid sleep {nap} & sleep {nap}", timeout_s=0.3),
        "memory over": shell(HUNGRY, memory_mib=32),
        "memory under": shell(HUNGRY, memory_mib=4096),
        "file over": shell("head -c 3000000 /dev/zero > big", max_file_mib=1),
        "file under": shell("head -c 3000000 /dev/zero > big", max_file_mib=4),
        "printed over": shell("head -c 3000000 /dev/zero", max_file_mib=1),
        "processes over": hard(config_of("command", command=["sh", "-c", MANY], max_processes=6), ""),
        "processes under": hard(config_of("command", command=["sh", "-c", MANY], max_processes=64), ""),
        "network refused": shell(connect),
        "network allowed": shell(connect, network="allowed"),
        "own file": shell(f"echo gone > {theirs}"),
        "own file by remounting": shell(f"mount -o remount,rw / && echo gone > {theirs}"),
        "own file with network": shell(f"echo gone > {theirs}", network="allowed"),
        "environment": shell('test -z "$JUDGE_API_KEY"'),
        "other processes": shell(f"test ! -e /proc/{os.getpid()}/environ"),
        "left running": [path.name for path in Path("/proc").glob("[0-9]*") if _runs(path, nap)],
        "left folders": [str(path) for path in Path(tempfile.gettempdir()).glob("podium-gate-*") if _is_mine(path)],
        "kept": theirs.read_text(),
    }
    print(json.dumps(said))


def _runs(process: Path, argument: str) -> bool:
    try:
        return argument in (process / "cmdline").read_text("utf-8", "replace").split("\0")
    except OSError:
        return False


def _is_mine(path: Path) -> bool:
    return path.exists() and path.stat().st_uid == os.getuid()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except UserError as error:
        sys.exit(f"the gate refuses to start: {error}")
