"""Every recipe that the repository ships loads."""

from __future__ import annotations

from pathlib import Path

import pytest

import recipes
from recipes.load import load_recipe

FILES = sorted(Path(recipes.__file__).parent.glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_loads(path: Path) -> None:
    assert load_recipe(path).recipe.name
