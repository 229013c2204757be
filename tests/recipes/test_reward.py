"""The reward side by itself, and out of a whole recipe; its faults are told as those of recipes are."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.load import load_recipe
from recipes.messages import RecipeError
from recipes.reward import load_rewards

FULL = Path(__file__).parent / "data" / "full.yaml"
SMALL = "rewards:\n  kind: tournament\n  judge: {kind: python, target: 'my.judges:better'}\n"


def write(folder: Path, text: str) -> Path:
    (folder / "rewards.yaml").write_text(text)
    return folder / "rewards.yaml"


def test_rewards_are_enough(tmp_path: Path) -> None:
    loaded = load_rewards(write(tmp_path, SMALL), ["rewards.orders=random", "rewards.cache=verdicts.sqlite"])
    assert (loaded.recipe.name, loaded.recipe.seed, loaded.base_dir) == ("rewards", 0, tmp_path)
    assert loaded.recipe.rewards.orders == "random"  # type: ignore[union-attr]
    assert loaded.recipe.rewards.cache == str(tmp_path / "verdicts.sqlite")  # type: ignore[union-attr]


def test_a_whole_recipe_does_too() -> None:
    loaded = load_rewards(FULL)
    whole = load_recipe(FULL).recipe
    assert (loaded.recipe.rewards, loaded.recipe.seed, loaded.recipe.launch) == (
        whole.rewards,
        whole.seed,
        whole.launch,
    )


def test_a_reward_recipe_may_extend_another(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    (tmp_path / "child.yaml").write_text("extends: rewards.yaml\nrewards: {topology: {kind: swiss}}\n")
    rewards = load_rewards(tmp_path / "child.yaml").recipe.rewards
    assert rewards.topology.kind == "swiss"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", r"rewards\.yaml:1: rewards: required, but not given"),
        (SMALL + "  ordrs: both\n", r"rewards\.yaml:4: rewards\.ordrs = 'both': unknown key; did you mean 'orders'\?"),
        (SMALL + "seeed: 1\n", r"rewards\.yaml:4: seeed = 1: unknown key; did you mean 'seed'\?"),
        (SMALL + "rl: {num_steps: 1}\n", r"model: required, but not given"),
    ],
)
def test_faults_name_file_line_and_key(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        load_rewards(write(tmp_path, text))
