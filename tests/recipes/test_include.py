"""Rubric files: checked like recipes, with their own file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import recipes
from recipes.load import dump_resolved, load_recipe
from recipes.messages import RecipeError
from rewards.config import TournamentRewards
from rewards.judge_config import PanelJudge
from rewards.rubric_config import RubricJudge

RECIPE = """\
name: small
model: {path: ./model}
task:
  kind: freeform
  source: {kind: jsonl, path: prompts.jsonl}
rewards:
  kind: tournament
  judge:
    kind: rubric
    endpoint: {base_url: "http://judge:8000/v1", model: m}
    rubric: rubrics/mine.yaml
rl: {num_steps: 3}
"""

RUBRIC = """\
# What counts.
criteria:
  - id: facts
    text: States nothing false.
    type: fatal
  - id: depth
    text: Explains.
    weight: 3
"""

Write = Callable[..., Path]
SHIPPED = sorted((Path(recipes.__file__).parent / "rubrics").glob("*.yaml"))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write_files(rubric: str = RUBRIC, recipe: str = RECIPE) -> Path:
        (tmp_path / "rubrics").mkdir(exist_ok=True)
        (tmp_path / "rubrics" / "mine.yaml").write_text(rubric)
        (tmp_path / "r.yaml").write_text(recipe)
        return Path("r.yaml")

    return write_files


def judge_in(path: Path, *overrides: str) -> RubricJudge:
    rewards = load_recipe(path, overrides).recipe.rewards
    assert isinstance(rewards, TournamentRewards)
    assert isinstance(rewards.judge, RubricJudge)
    return rewards.judge


def faults(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return [str(fault).replace(f"{Path.cwd()}/", "") for fault in caught.value.faults]


def test_a_file_becomes_its_content(write: Write) -> None:
    judge = judge_in(write())
    assert [(c.id, c.type, c.weighs) for c in judge.rubric.criteria] == [
        ("facts", "fatal", 0.0),
        ("depth", "important", 3.0),
    ]
    loaded = load_recipe("r.yaml")
    assert [path.name for path in loaded.sources] == ["r.yaml"]
    assert [path.name for path in loaded.rubrics] == ["mine.yaml"]


def test_the_resolved_recipe_needs_no_file(write: Write, tmp_path: Path) -> None:
    recipe = load_recipe(write()).recipe
    (tmp_path / "resolved.json").write_text(json.dumps(dump_resolved(recipe)))
    (tmp_path / "rubrics" / "mine.yaml").unlink()
    assert load_recipe("resolved.json").recipe == recipe


def test_it_may_stand_in_the_recipe_and_be_set(write: Write, tmp_path: Path) -> None:
    inline = RECIPE.replace("rubrics/mine.yaml", "{criteria: [{id: a, text: t}]}")
    assert [c.id for c in judge_in(write(recipe=inline)).rubric.criteria] == ["a"]
    assert judge_in(Path("r.yaml"), "rewards.judge.rubric.criteria.0.weight=4").rubric.criteria[0].weighs == 4.0
    (tmp_path / "other.yaml").write_text("criteria: [{id: b, text: t}]")
    judge = judge_in(write(), "rewards.judge.rubric=other.yaml")
    assert [c.id for c in judge.rubric.criteria] == ["b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("type: fatal", "type: fatl"),
         "rubrics/mine.yaml:5: rewards.judge.rubric.criteria.0.type = 'fatl': must be 'fatal', 'core', 'important' or "
         "'highlight'; did you mean 'fatal'?"),
        (("    weight: 3", "    wieght: 3"),
         "rubrics/mine.yaml:8: rewards.judge.rubric.criteria.1.wieght = 3: unknown key; did you mean 'weight'?"),
        (("weight: 3", "weight: 0"),
         "rubrics/mine.yaml:8: rewards.judge.rubric.criteria.1.weight = 0: must be more than 0"),
        (("id: depth", "id: Deep"),
         "rubrics/mine.yaml:6: rewards.judge.rubric.criteria.1.id = 'Deep': must be up to 40 small letters, digits and "
         "'_', starting with a letter"),
        (("id: depth", "id: depth\n    id: depth"),
         "rubrics/mine.yaml:7: criteria.1.id: written twice, first at {cwd}/rubrics/mine.yaml:6; keep one"),
        (("criteria:", "criteria: {"), "rubrics/mine.yaml:3: not YAML"),
        ((RUBRIC, ""), "rubrics/mine.yaml: empty; a rubric is a mapping of keys"),
        ((RUBRIC, "- a"), "rubrics/mine.yaml:1: ['a']: a rubric is a mapping of keys"),
    ],
)  # fmt: skip
def test_faults_name_the_rubrics_own_lines(write: Write, change: tuple[str, str], message: str) -> None:
    (said,) = faults(write(RUBRIC.replace(*change)))
    assert said.startswith(message.replace("{cwd}/", ""))


def test_a_file_that_is_not_there(write: Write) -> None:
    (said,) = faults(write(), "rewards.judge.rubric=no.yaml")
    assert said == "no.yaml: cannot be read: no such file or directory"


def test_a_panel_and_an_audit_judge_have_rubrics_too(write: Write) -> None:
    judge = "{kind: rubric, endpoint: {base_url: 'http://j/v1', model: m}, rubric: rubrics/mine.yaml}"
    panel = "{kind: panel, members: [{judge: " + judge + "}, {judge: {kind: python, target: 'a:b'}}]}"
    recipe = load_recipe(write(), [f"rewards.judge={panel}", f"evaluation.audit_judge={judge}"]).recipe
    assert isinstance(recipe.rewards, TournamentRewards)
    assert isinstance(recipe.rewards.judge, PanelJudge)
    of_panel = recipe.rewards.judge.members[0].judge
    assert isinstance(of_panel, RubricJudge)
    assert isinstance(recipe.evaluation.audit_judge, RubricJudge)
    assert of_panel.rubric == recipe.evaluation.audit_judge.rubric


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_rubrics_load(write: Write, path: Path) -> None:
    assert judge_in(write(recipe=RECIPE.replace("rubrics/mine.yaml", str(path)))).rubric.criteria


def test_there_are_shipped_rubrics() -> None:
    assert SHIPPED
