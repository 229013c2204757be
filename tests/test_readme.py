"""The README's snippets are run, so that they stay true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from recipes.load import load_recipe
from rewards.types import Candidate, ParsedAnswer, Prompt

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    found = [
        text for text in re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if holding in text
    ]
    assert len(found) == 1
    return found[0]


def run(code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


def test_ranking_with_a_plain_function(capsys: pytest.CaptureFixture[str]) -> None:
    score = run(block("python", "rank_group"))["score"]
    long, short, middle = score.rewards
    assert short > middle > long
    assert score.num_calls == 6
    assert capsys.readouterr().out.startswith("[")


def test_the_recipe_is_a_valid_one(tmp_path: Path) -> None:
    (tmp_path / "haiku.yaml").write_text(block("yaml", "name: haiku"))
    (tmp_path / "topics.jsonl").write_text('{"topic": "rain"}\n')
    recipe = load_recipe(tmp_path / "haiku.yaml").recipe
    assert recipe.rl.num_steps == 20


def test_the_judge() -> None:
    judge = run(block("python", "closer_to_17"))["closer_to_17"]
    prompt = Prompt("p", "Write.")
    near, far = Candidate("a", "word " * 16), Candidate("b", "word " * 3)
    assert [judge(prompt, near, far), judge(prompt, far, near), judge(prompt, near, near)] == [1.0, 0.0, 0.5]


def test_the_task() -> None:
    task = run(block("python", "class Riddles"))["Riddles"](num_heldout=2)
    assert [len(task.train_prompts()), len(task.heldout_prompts())] == [2, 2]
    prompt = task.train_prompts()[0]
    assert task.parse(prompt, "What looks back at you?") == ParsedAnswer()
    assert task.parse(prompt, "A mirror!").malformed == "names the answer"


def test_the_make_targets_exist() -> None:
    targets = re.findall(r"^make (\w+)", "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)), re.MULTILINE)
    assert targets == ["quickstart", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_files_it_names_exist() -> None:
    named = set(re.findall(r"\b(?:recipes|rewards|rollouts|rl|launch|tests|requirements)/[\w./-]*\w\.\w+", README))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
