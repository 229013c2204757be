"""Roles of vLLM's processes, with titles and without."""

from __future__ import annotations

import pytest

from rollouts.engine_slot import role_of
from rollouts.process_titles import title_of

SPAWN = [
    "python",
    "-B",
    "-c",
    "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=68, pipe_handle=70)",
]
TRACKER = ["python", "-c", "from multiprocessing.resource_tracker import main;main(67)"]


@pytest.mark.parametrize(
    ("name", "arguments", "is_child", "role"),
    [
        ("VLLM::EngineCor", ["VLLM::EngineCore", ""], True, "core-7"),
        ("VLLM::Worker", ["VLLM::Worker", ""], False, "worker-7"),
        ("python3.11", SPAWN, True, "core-7"),
        ("python3.11", SPAWN, False, "worker-7"),
        ("python3.11", TRACKER, True, "python3.11-7"),
        ("python3.11", [], False, "python3.11-7"),
    ],
)
def test_a_process_is_told_by_its_title_or_its_place(
    name: str, arguments: list[str], is_child: bool, role: str
) -> None:
    assert role_of(f"{title_of(name, arguments, is_child=is_child)}:7") == role
