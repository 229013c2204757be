"""Five hundred damaged recipes: each is accepted, or refused with one clean line per fault. Never anything else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes.load import dump_resolved, load_recipe
from recipes.messages import RecipeError
from recipes.schema import Recipe
from tests.recipes.mutate import mutated

DATA = Path(__file__).parent / "data"
FULL = (DATA / "full.yaml").read_text(encoding="utf-8")

NUM_MUTATIONS = 500
BATCH = 50

CLEAN = re.compile(r"(mutant|full)\.yaml(:\d+)?: \S.*")


def outcome(path: Path) -> Recipe | list[str]:
    try:
        return load_recipe(path).recipe
    except RecipeError as error:
        return str(error).split("\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full.yaml").write_text(FULL, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("first", range(0, NUM_MUTATIONS, BATCH))
def test_a_damaged_recipe_is_accepted_or_refused_cleanly(folder: Path, first: int) -> None:
    for seed in range(first, first + BATCH):
        Path("mutant.yaml").write_text(mutated(FULL, seed), encoding="utf-8")
        result = outcome(Path("mutant.yaml"))
        if isinstance(result, Recipe):
            assert Recipe.model_validate(dump_resolved(result), strict=False) == result, seed
            continue
        for line in result:
            assert CLEAN.fullmatch(line), (seed, line)
            assert line.isprintable(), (seed, line)
            assert len(line) < 800, (seed, line)


def test_the_damage_is_neither_harmless_nor_always_deadly(folder: Path) -> None:
    accepted = 0
    for seed in range(40):
        Path("mutant.yaml").write_text(mutated(FULL, seed), encoding="utf-8")
        accepted += isinstance(outcome(Path("mutant.yaml")), Recipe)
    assert 1 <= accepted <= 20
