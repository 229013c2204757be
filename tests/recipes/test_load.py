"""Reading recipes: inheritance, overrides, paths, and the wording of every fault."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recipes.load import MAX_BYTES, dump_resolved, load_recipe
from recipes.messages import MEANT_KEYS, PATTERN_RULES, RecipeError
from recipes.schema import Recipe
from recipes.walk import key_places
from recipes.yaml_text import dump_yaml
from rewards.config import TournamentRewards
from rewards.errors import UserError
from rewards.judge_config import EmbeddingJudge, JudgeConfig, PanelJudge
from rewards.strict import config_kinds
from rewards.topology_config import RoundRobin
from rollouts.config import FreeformTask, JsonlSource

FULL = Path(__file__).parent / "data" / "full.yaml"

JUDGES = ", ".join(repr(kind) for kind in config_kinds(JudgeConfig))

MINIMAL = """\
name: small
model:
  path: ./model
task:
  kind: freeform
  source: {kind: jsonl, path: prompts.jsonl}
rewards:
  kind: tournament
  judge:
    kind: embedding
    model: package:all-minilm-l6-v2
rl:
  num_steps: 3
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes, name: str = "r.yaml") -> Path:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return Path(name)

    return write_file


def faults(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.faults)
    return lines


# --- what is read -----------------------------------------------------------------------------------------------


def test_a_minimal_recipe_gets_the_defaults(write: Write) -> None:
    loaded = load_recipe(write(MINIMAL))
    assert loaded.recipe.rollouts.group_size == 8
    assert isinstance(loaded.recipe.rewards, TournamentRewards)
    assert loaded.recipe.rewards.topology == RoundRobin()
    assert loaded.path == Path("r.yaml")
    assert loaded.base_dir == Path.cwd()
    assert loaded.sources == (Path("r.yaml"),)


def test_lists_fill_tuples_and_integers_fill_floats(write: Write) -> None:
    loaded = load_recipe(
        write(MINIMAL), ["rl.optimizer.betas=[0, 0.5]", "rollouts.deadline_s=5", "rl.optimizer.lr=1e-6"]
    )
    assert loaded.recipe.rl.optimizer.betas == (0.0, 0.5)
    assert loaded.recipe.rollouts.deadline_s == 5.0
    assert loaded.recipe.rl.optimizer.lr == 1e-6


def test_a_resolved_recipe_loads_back_equal(write: Write) -> None:
    recipe = load_recipe(FULL).recipe
    again = load_recipe(write(json.dumps(dump_resolved(recipe)), "elsewhere/recipe.json")).recipe
    assert again == recipe


@pytest.mark.parametrize("name", ["full", "1e5", "on", "0o17", "12", "true", "null"])
def test_a_resolved_recipe_as_yaml_loads_back_equal(write: Write, name: str) -> None:
    recipe = load_recipe(FULL, [f"name='{name}'"]).recipe
    assert load_recipe(write(dump_yaml(dump_resolved(recipe)), "resolved.yaml")).recipe == recipe


def test_a_byte_order_mark_is_no_fault(write: Write) -> None:
    assert load_recipe(write(b"\xef\xbb\xbf" + MINIMAL.encode())).recipe.name == "small"


# --- extends ----------------------------------------------------------------------------------------------------


def test_a_child_inherits_and_overrides(write: Write) -> None:
    write(MINIMAL, "base/parent.yaml")
    child = write("extends: ../base/parent.yaml\nname: child\nrl: {optimizer: {lr: 1e-5}}\n", "own/child.yaml")
    loaded = load_recipe(child)
    assert loaded.recipe.name == "child"
    assert loaded.recipe.rl.num_steps == 3
    assert loaded.recipe.rl.optimizer.lr == 1e-5
    assert [path.name for path in loaded.sources] == ["child.yaml", "parent.yaml"]


def test_a_grandchild_reaches_its_grandparent(write: Write) -> None:
    write(MINIMAL, "a.yaml")
    write("extends: a.yaml\nseed: 1\n", "b.yaml")
    loaded = load_recipe(write("extends: b.yaml\nname: c\n", "c.yaml"))
    assert (loaded.recipe.name, loaded.recipe.seed) == ("c", 1)
    assert [path.name for path in loaded.sources] == ["c.yaml", "b.yaml", "a.yaml"]


def test_a_new_kind_drops_the_parents_section(write: Write) -> None:
    write(MINIMAL, "a.yaml")
    child = write("extends: a.yaml\nrewards:\n  judge:\n    kind: python\n    target: my.mod:fn\n", "b.yaml")
    assert load_recipe(child).recipe.rewards.kind == "tournament"


def test_a_fault_in_a_parent_names_the_parents_line(write: Write) -> None:
    write(MINIMAL.replace("num_steps: 3", "num_steps: 0"), "a.yaml")
    assert faults(write("extends: a.yaml\n", "b.yaml")) == ["a.yaml:13: rl.num_steps = 0: must be at least 1"]


@pytest.mark.parametrize("text", ["extends: a.yaml\n", "extends: ./a.yaml\n", "extends: b.yaml\n"])
def test_a_circle_of_recipes_is_refused(write: Write, text: str) -> None:
    write("extends: a.yaml\n", "b.yaml")
    (message,) = faults(write(text, "a.yaml"))
    assert "extends itself: a.yaml ->" in message
    assert message.endswith("-> a.yaml")


@pytest.mark.parametrize("value", ["missing.yaml", "3", "[a.yaml]", "''", ".", "no/such/folder/x.yaml"])
def test_a_parent_that_cannot_be_read_is_refused(write: Write, value: str) -> None:
    (message,) = faults(write(f"name: x\nextends: {value}\n"))
    assert message.startswith("r.yaml:2: extends")


# --- relative paths ---------------------------------------------------------------------------------------------


def test_paths_start_at_the_file_they_are_written_in(write: Write, tmp_path: Path) -> None:
    write(MINIMAL, "base/parent.yaml")
    child = write("extends: ../base/parent.yaml\nmodel: {path: ./mine}\n", "own/child.yaml")
    recipe = load_recipe(child).recipe
    assert recipe.model.path == str(tmp_path / "own/mine")
    assert isinstance(recipe.task, FreeformTask)
    assert isinstance(recipe.task.source, JsonlSource)
    assert recipe.task.source.path == str(tmp_path / "base/prompts.jsonl")


def test_names_that_are_no_paths_stay_names(write: Write, tmp_path: Path) -> None:
    recipe = load_recipe(write(MINIMAL), ["model.path=owner/name"]).recipe
    assert recipe.model.path == "owner/name"
    assert isinstance(recipe.rewards, TournamentRewards)
    assert isinstance(recipe.rewards.judge, EmbeddingJudge)
    assert recipe.rewards.judge.model == "package:all-minilm-l6-v2"
    (tmp_path / "owner/name").mkdir(parents=True)
    assert load_recipe("r.yaml", ["model.path=owner/name"]).recipe.model.path == str(tmp_path / "owner/name")


def test_a_run_to_start_from_is_beside_the_file_or_where_we_are(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / write(MINIMAL, "own/r.yaml")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for given, anchored in (("runs/a", here / "runs/a"), ("./runs/a", tmp_path / "own/runs/a"), ("/runs/a", "/runs/a")):
        assert load_recipe(file, [f"rl.init_from={given}"]).recipe.rl.init_from == str(anchored)
    (tmp_path / "own/runs/a").mkdir(parents=True)
    assert load_recipe(file, ["rl.init_from=runs/a"]).recipe.rl.init_from == str(tmp_path / "own/runs/a")
    assert load_recipe(file).recipe.rl.init_from is None


def test_paths_in_the_members_of_a_panel(write: Write, tmp_path: Path) -> None:
    member = "{judge: {kind: reward_model, model: ./%s}, name: %s}"
    judge = f"{{kind: panel, members: [{member % ('a', 'a')}, {member % ('b', 'b')}]}}"
    known = "\n  calibration: {file: pairs.jsonl}"
    text = MINIMAL.replace("    kind: embedding\n    model: package:all-minilm-l6-v2", f"    {judge}{known}")
    text += "rollouts: {max_prompt_tokens: 64, max_tokens: 16}\n"
    write(text, "base/parent.yaml")
    recipe = load_recipe(write("extends: base/parent.yaml\nname: own\n")).recipe
    assert isinstance(recipe.rewards, TournamentRewards)
    assert isinstance(recipe.rewards.judge, PanelJudge)
    models = [getattr(member.judge, "model", None) for member in recipe.rewards.judge.members]
    assert models == [str(tmp_path / "base/a"), str(tmp_path / "base/b")]
    assert recipe.rewards.calibration is not None
    assert recipe.rewards.calibration.file == str(tmp_path / "base/pairs.jsonl")


# --- --set ------------------------------------------------------------------------------------------------------


def test_overrides_come_last_and_the_order_of_kind_does_not_matter(write: Write) -> None:
    loaded = load_recipe(
        write(MINIMAL), ["rewards.judge.target=a.b:c", "rewards.judge.kind=python", "rl.num_steps=7", "rl.num_steps=9"]
    )
    assert isinstance(loaded.recipe.rewards, TournamentRewards)
    assert loaded.recipe.rewards.judge.kind == "python"
    assert loaded.recipe.rl.num_steps == 9


def test_every_meant_key_is_one_of_the_schema() -> None:
    known = {path for paths in key_places(Recipe).values() for path in paths}
    assert set(MEANT_KEYS.values()) <= known
    assert not set(MEANT_KEYS) & known


def test_overrides_reach_into_lists() -> None:
    rewards = load_recipe(FULL, ["rewards.gates.0.max_words=30"]).recipe.rewards
    assert rewards.gates[0].model_dump()["max_words"] == 30
    assert rewards.gates[0].model_dump()["min_words"] == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rl.num_step=5", "rl.num_step = 5: unknown key; did you mean 'num_steps'?"),
        (
            "rollouts.top_p=0.9",
            "rollouts.top_p = 0.9: is not offered: the learner compares its probability of each token with the one "
            "that it was sampled with, and vLLM's are from after this cut, the learner's from before it; remove it; "
            "rollouts.temperature reaches both sides",
        ),
        (
            "rollouts.repetition_penalty=1.1",
            "rollouts.repetition_penalty = 1.1: is not offered: the learner compares its probability of each token "
            "with the one that it was sampled with, and vLLM's are from after this penalty, the learner's from before "
            "it; remove it; rollouts.temperature reaches both sides",
        ),
        ("rl.lr=3", "rl.lr = 3: unknown key; did you mean 'rl.optimizer.lr'?"),
        ("rl.learning_rate=3", "rl.learning_rate = 3: unknown key; did you mean 'rl.optimizer.lr'?"),
        ("rl.batch_size=3", "rl.batch_size = 3: unknown key; did you mean 'rollouts.prompts_per_step'?"),
        ("sft.learning_rate=3", "sft.learning_rate = 3: unknown key; did you mean 'sft.optimizer.lr'?"),
        ("model.name=x", "model.name = 'x': unknown key; did you mean 'model.path'?"),
        ("launch.device=gpu", "launch.device = 'gpu': must be 'auto', 'cpu' or 'cuda'; did you mean 'cuda'?"),
        ("rl.num_steps=x", "rl.num_steps = 'x': must be a whole number"),
        ("rl.num_steps=true", "rl.num_steps = true: must be a whole number"),
        ("rl.max_logprob_gap=.nan", "rl.max_logprob_gap = nan: must be a finite number"),
        (
            "rewards.gates.1.max_words=3",
            "rewards.gates.1.max_words = 3: unknown key; `max_words` belongs to kind 'length'",
        ),
        ("rewards.gates.9.field=x", "rewards.gates.9.field: '9' is not an index of a list of 2"),
        ("seed.x=1", "seed.x: 'x' leads into a single value"),
        (
            "tracking.extends=x",
            "tracking.extends = 'x': unknown key; known here: wandb, display",
        ),
        ("seed", "must look like `key.path=value`"),
        ("=1", "must look like `key.path=value`"),
        ("a..b=1", "must look like `key.path=value`"),
    ],
)
def test_a_bad_override_is_named_as_it_was_given(override: str, message: str) -> None:
    assert faults(FULL, override) == [f"--set {override}: {message}"]


def test_an_override_that_is_not_yaml_is_refused() -> None:
    assert faults(FULL, "name=[")[0].startswith("--set name=[: not YAML: ")


# --- wording ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_steps: 3", "num_stepz: 3", "12: rl.num_steps: required, but not given"),
        ("num_steps: 3", "num_steps: 3.5", "13: rl.num_steps = 3.5: must be a whole number"),
        (
            "kind: embedding",
            "kind: embeding",
            f"10: rewards.judge.kind = 'embeding': kinds are {JUDGES}; did you mean 'embedding'?",
        ),
        (
            "    kind: embedding\n    model: package:all-minilm-l6-v2",
            "    model: m",
            f"9: rewards.judge = {{model: 'm'}}: needs a `kind`: {JUDGES}",
        ),
        ("rl:\n  num_steps: 3", "rl: 3", "12: rl = 3: must be a section of `key: value` lines"),
        ("rl:\n  num_steps: 3\n", "", "1: rl: required, but not given"),
        ("name: small", "name: 12", "1: name = 12: must be text; put it in quotes"),
        (
            "name: small",
            "name: a/b",
            "1: name = 'a/b': must be up to 64 letters, digits, '.', '_', '-', not starting with a sign",
        ),
        (
            "num_steps: 3",
            "num_steps: 3\n  learner: {share_prompt: yes}",
            "14: rl.learner.share_prompt = 'yes': must be true or false; write true",
        ),
        (
            "num_steps: 3",
            "num_steps: 3\n  objective: {kind: grpoo}",
            "14: rl.objective.kind = 'grpoo': must be 'grpo', 'dr_grpo', 'dapo', 'gspo', 'gspo_token', 'cispo', "
            "'gmpo', 'sapo', 'rloo', 'reinforce_pp', 'reinforce_pp_baseline', 'f_grpo', 'rank_grpo', "
            "'focal' or 'disco'; "
            "did you mean 'grpo'?",
        ),
        (
            "num_steps: 3",
            "num_steps: 3\n  optimizer: {betas: [0.9, 2]}",
            "14: rl.optimizer.betas.1 = 2: must be less than 1.0",
        ),
        (
            "num_steps: 3",
            "num_steps: 3\n  optimizer: {betas: [0.9]}",
            "14: rl.optimizer.betas.1: required, but not given",
        ),
        (
            "num_steps: 3",
            "num_steps: 3\n  optimizer: {lr: .inf}",
            "14: rl.optimizer.lr = inf: must be a finite number",
        ),
    ],
)
def test_a_fault_names_line_key_value_and_rule(write: Write, old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    assert f"r.yaml:{message}" in faults(write(MINIMAL.replace(old, new)))


def test_words_that_yaml_1_1_took_for_booleans_are_names(write: Write) -> None:
    assert load_recipe(write(MINIMAL.replace("name: small", "name: no"))).recipe.name == "no"


def test_every_fault_is_reported_at_once(write: Write) -> None:
    text = (
        MINIMAL.replace("num_steps: 3", "num_steps: 0")
        .replace("name: small", "name: ''")
        .replace("model:", "modle:", 1)
    )
    assert [line.split(":")[1] for line in faults(write(text))] == ["1", "1", "13", "2"]


def test_a_value_that_fits_no_member_of_a_plain_union_is_one_fault(write: Write) -> None:
    text = MINIMAL.replace(
        "  kind: freeform\n  source: {kind: jsonl, path: prompts.jsonl}",
        "  kind: python\n  target: a.b:c\n  options: {x: [1]}",
    )
    assert faults(write(text)) == [
        "r.yaml:7: task.options.x = [1]: must be text or a whole number or a number or true or false"
    ]


def test_long_and_strange_values_are_cut_and_escaped(write: Write) -> None:
    strange = "ä\\n\\u202e" * 400
    (message,) = faults(write(MINIMAL.replace("name: small", f'name: "{strange}"')))
    assert len(message) < 250
    assert message.isprintable()


def test_strange_keys_are_shown_escaped(write: Write) -> None:
    (message,) = faults(write(MINIMAL + '"a\\nb: \\e[31m": 1\n'))
    assert message.startswith("r.yaml:14: 'a\\nb: \\x1b[31m' = 1: unknown key; known here: name")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"# only a comment\n", "empty"),
        (b"- a\n- b\n", "a recipe is a mapping of keys"),
        (b"just text\n", "a recipe is a mapping of keys"),
        (b"name: \xff\xfe\n", "not UTF-8 text"),
        (b"\x7fELF\x00\x01\x02", "U+007F"),
        (b"a: 1\n" * (MAX_BYTES // 5 + 1), "not a recipe"),
        (b"a: 1\n  b: 2\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_line(write: Write, content: bytes, words: str) -> None:
    (message,) = faults(write(content))
    assert message.startswith("r.yaml")
    assert words in message


def test_a_section_that_complains_of_a_key_names_it(write: Write) -> None:
    path = write(MINIMAL.replace("  judge:", "  topology: {kind: adaptive, calls_per_group: 8}\n  judge:"))
    (message,) = faults(path, "rewards.budget={calls_per_group: 3}")
    assert message.startswith(
        "--set rewards.budget={calls_per_group: 3}: rewards.budget.calls_per_group = 3: adaptive "
    )


def test_a_file_that_is_not_there_is_refused(write: Write) -> None:
    assert faults("no.yaml") == ["no.yaml: cannot be read: no such file or directory"]
    assert faults(".") == [".: cannot be read: is a directory"]
    assert "cannot be read" in faults("a\0b")[0]
    assert "cannot be read" in faults("x" * 5000)[0]


def test_a_recipe_error_is_a_user_error_that_survives_pickling() -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(FULL, ["rl.num_steps=0"])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_every_pattern_of_the_schema_has_words() -> None:
    patterns = set(re.findall(r'"pattern": "(?!#/)((?:[^"\\]|\\.)*)"', json.dumps(Recipe.model_json_schema())))
    assert {json.loads(f'"{pattern}"') for pattern in patterns} == set(PATTERN_RULES)


def test_reading_a_recipe_imports_nothing_heavy() -> None:
    program = f"""
import sys
from recipes.load import load_recipe
load_recipe({str(FULL)!r})
print(sorted({{'torch', 'ray', 'vllm', 'deepspeed', 'transformers', 'datasets', 'pyarrow'}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
