"""What holds for every file of the project."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("rewards", "rollouts", "rl", "recipes", "launch", "requirements", "tests")
A_PAGE = 80

# Written so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+|op[t]|tm[p])/\w")
REGISTRY_HOST = re.compile(
    r"\b(pyp[i]\.org|pythonhoste[d]\.org|npmj[s]\.org|anacond[a]\.org|download\.pytorc[h]\.org)\b"
)
PYTORCH_CPU_INDEX = "TORCH_CPU_INDEX := "


def texts() -> list[tuple[str, str]]:
    """Path and text of every tracked file that is text."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = []
    for name in names:
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes()):
            found.append((name, data.decode("utf-8")))
    return found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line) and not (name == "Makefile" and line.startswith(PYTORCH_CPU_INDEX))
    ]


def test_no_file_names_a_path_of_one_machine() -> None:
    assert lines_with(MACHINE_PATH) == []


def test_no_file_names_a_registrys_host() -> None:
    assert lines_with(REGISTRY_HOST) == []


@pytest.mark.parametrize("line", ["see /wor" + "k/main/x", 'open("/tm' + 'p/x")', "/hom" + "e/ann/y"])
def test_a_machine_path_would_be_found(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["rl/tmp/x", "docs/work/x", "$HOME/opt/x", "a / b"])
def test_other_slashes_are_no_machine_path(line: str) -> None:
    assert not MACHINE_PATH.search(line)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_has_a_readme_of_at_most_a_page(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.is_file()
    assert 0 < len(readme.read_text(encoding="utf-8").splitlines()) <= A_PAGE


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_names_in_the_changelog_match_the_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
