from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.errors import UserError
from rewards.importing import import_target, locate

SOURCE = """
from os import path as where
import json
raise_on_import = 1 / DIVISOR if (DIVISOR := {divisor}) >= 0 else 0

def judge(prompt, first, second):
    return 0.5

class Judge:
    async def compare(self, prompt, first, second):
        return 0.5

if True:
    hidden: int = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose import raises, at every level, unless its files are written again."""
    root = tmp_path / "plug_ins"
    (root / "inner").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('imported the parent')")
    (root / "inner" / "__init__.py").write_text("raise RuntimeError('imported the parent')")
    (root / "inner" / "judging.py").write_text(SOURCE.format(divisor=0))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == "plug_ins"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["judge", "Judge", "hidden", "where", "json", "raise_on_import"])
def test_locate_finds_names_without_importing(package: Path, name: str) -> None:
    assert locate(f"plug_ins.inner.judging:{name}") == package / "inner" / "judging.py"
    assert "plug_ins" not in sys.modules


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("plug_ins.inner.judging:juge", "module plug_ins.inner.judging has no 'juge'; did you mean 'judge'?"),
        ("plug_ins.inner.judging:zzz", "has no 'zzz'; check the spelling"),
        ("plug_ins.inner.nowhere:judge", "no module named 'plug_ins.inner.nowhere'; install it"),
        ("plug_ins.outer.judging:judge", "no module named 'plug_ins.outer'"),
        ("plug_ins.inner.judging.deep:judge", "no module named 'plug_ins.inner.judging'"),
        ("no_such_package.judging:judge", "no module named 'no_such_package'; install it"),
        ("plug_ins", "give package.module:name"),
        ("plug_ins:", "give package.module:name"),
        ("plug_ins..inner:judge", "give package.module:name"),
        ("../plug_ins:judge", "give package.module:name"),
    ],
)
def test_locate_refuses_in_one_line(package: Path, target: str, fault: str) -> None:
    with pytest.raises(UserError) as caught:
        locate(target)
    assert str(caught.value).startswith(f"target {target!r}: ")
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_locate_names_the_line_of_a_syntax_error(package: Path) -> None:
    file = package / "inner" / "judging.py"
    file.write_text("x = 1\ndef broken(:\n")
    with pytest.raises(UserError, match=r"judging\.py:2 is not valid Python"):
        locate("plug_ins.inner.judging:broken")


@pytest.mark.parametrize("source", ["from os.path import *", "def __getattr__(name): return 1"])
def test_locate_lets_names_pass_that_it_cannot_see(package: Path, source: str) -> None:
    (package / "inner" / "judging.py").write_text(source)
    assert locate("plug_ins.inner.judging:anything") is not None


def test_locate_knows_modules_without_source() -> None:
    assert locate("math:sqrt") is None


def make_importable(package: Path, divisor: int = 1) -> None:
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "judging.py").write_text(SOURCE.format(divisor=divisor))


def test_import_gives_the_object(package: Path) -> None:
    make_importable(package)
    assert import_target("plug_ins.inner.judging:judge")(None, None, None) == 0.5
    assert import_target("plug_ins.inner.judging:Judge").__name__ == "Judge"


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("plug_ins.inner.judging:juge", "did you mean 'judge'?"),
        ("plug_ins.inner.nowhere:judge", "no module named 'plug_ins.inner.nowhere'"),
        ("plug_ins.outer.judging:judge", "no module named 'plug_ins.outer'"),
    ],
)
def test_import_refuses_what_is_not_there(package: Path, target: str, fault: str) -> None:
    make_importable(package)
    with pytest.raises(UserError) as caught:
        import_target(target)
    assert fault in str(caught.value)


def test_faults_of_the_module_itself_keep_their_traceback(package: Path) -> None:
    make_importable(package, divisor=0)
    with pytest.raises(ZeroDivisionError):
        import_target("plug_ins.inner.judging:judge")
    (package / "inner" / "judging.py").write_text("import no_such_dependency")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        import_target("plug_ins.inner.judging:judge")
