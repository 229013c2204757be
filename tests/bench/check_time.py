"""Wall time of `podium check` and `podium --help` in fresh processes: python -m tests.bench.check_time [RECIPE]"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.launch.fakes import write_recipe_folder


def seconds(arguments: list[str], runs: int) -> tuple[list[float], list[float]]:
    """Wall time and processor time of each of `runs` fresh processes; the second hardly depends on other load."""
    wall, busy = [], []
    for _ in range(runs):
        start, used = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "launch.cli", *arguments], stdout=subprocess.DEVNULL, check=True)
        wall.append(time.perf_counter() - start)
        now = os.times()
        busy.append(now.children_user + now.children_system - used.children_user - used.children_system)
    return wall, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", help="default: a recipe with every section and models of no size")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = options.recipe or str(write_recipe_folder(Path(folder)))
        for name, arguments in {"podium check": ["check", recipe], "podium --help": ["--help"]}.items():
            wall, busy = seconds(arguments, options.runs)
            print(
                f"{name:14} wall: median {statistics.median(wall):.2f} s, slowest {max(wall):.2f} s of {len(wall)}; "
                f"processor: median {statistics.median(busy):.2f} s"
            )


if __name__ == "__main__":
    main()
