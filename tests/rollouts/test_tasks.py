from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from rewards.errors import UserError
from rewards.types import ParsedAnswer, Prompt
from rollouts.config import TaskConfig, answer_parts
from rollouts.prompts import make_prompt
from rollouts.tasks import BUILDERS, build_task
from rollouts.types import Task

ROWS = "\n".join(f'{{"prompt": "Write about {word}.", "hint": "{{prompt}} {word}"}}' for word in "abcdef")


class TwoPrompts:
    """A task as a user would write it."""

    def __init__(self, *, first: str = "one"):
        self.prompts = [make_prompt([{"role": "user", "content": text}], {}) for text in (first, "two")]

    def train_prompts(self) -> Sequence[Prompt]:
        return self.prompts[:1]

    def heldout_prompts(self) -> Sequence[Prompt]:
        return self.prompts[1:]

    def parse(self, prompt: Prompt, answer: str) -> ParsedAnswer:
        return ParsedAnswer(parts={"answer": answer})


class NoTask:
    def parse(self, prompt: Prompt, answer: str) -> ParsedAnswer:
        return ParsedAnswer()


def task_config(**config: Any) -> TaskConfig:
    if config.get("kind", "freeform") == "freeform":
        config = {"kind": "freeform", "source": {"kind": "jsonl", "path": "prompts.jsonl"}, "heldout": 2} | config
    return TypeAdapter(TaskConfig).validate_python(config)


def build(tmp_path: Path, seed: int = 0, rows: str = ROWS, **config: Any) -> Task:
    (tmp_path / "prompts.jsonl").write_text(rows)
    return build_task(task_config(**config), seed, tmp_path)


CONFIGS: list[dict[str, Any]] = [
    {"kind": "freeform"},
    {"kind": "slate_rank", "source": {"kind": "synthetic", "num_prompts": 6}, "heldout": 2},
    {"kind": "python", "target": f"{__name__}:TwoPrompts"},
]
WELL_FORMED = {"slate_rank": "<SLATE>i03, i00</SLATE><RANK>i00</RANK>"}


def test_every_kind_has_a_builder_and_a_contract_test() -> None:
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(get_args(TaskConfig)[0])}
    assert kinds == set(BUILDERS) == {config["kind"] for config in CONFIGS}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["kind"])
def test_contract(tmp_path: Path, config: dict[str, Any]) -> None:
    task = build(tmp_path, **config)
    train, heldout = task.train_prompts(), task.heldout_prompts()
    assert train
    assert not {prompt.id for prompt in train} & {prompt.id for prompt in heldout}
    for prompt in [*train, *heldout]:
        assert prompt.text == prompt.messages[-1]["content"]
        assert prompt.id
    assert [prompt.id for prompt in build(tmp_path, **config).train_prompts()] == [prompt.id for prompt in train]
    answer = WELL_FORMED.get(config["kind"], "an answer")
    parsed = task.parse(train[0], answer)
    assert answer_parts(task_config(**config)) in (None, tuple(parsed.parts))
    assert parsed.parts.get("answer", answer) == answer  # without the part, judges see the text as it is
    assert parsed.malformed is None


def test_template_is_filled_in_one_pass(tmp_path: Path) -> None:
    task = build(tmp_path, template="{hint}: {prompt} {{hint}} {} {x", heldout=1)
    assert len(task.train_prompts()) == 5
    for prompt in task.train_prompts():
        word = prompt.fields["prompt"].removeprefix("Write about ").removesuffix(".")
        assert prompt.text == f"{{prompt}} {word}: Write about {word}. {{hint}} {{}} {{x"


def test_system_message_comes_first_and_counts_as_part_of_the_prompt(tmp_path: Path) -> None:
    plain, told = build(tmp_path), build(tmp_path, system="Be brief.")
    assert [message["role"] for message in told.train_prompts()[0].messages] == ["system", "user"]
    assert not {prompt.id for prompt in plain.train_prompts()} & {prompt.id for prompt in told.train_prompts()}


def test_seed_draws_the_held_out_prompts(tmp_path: Path) -> None:
    drawn = {tuple(sorted(prompt.id for prompt in build(tmp_path, seed).heldout_prompts())) for seed in range(8)}
    assert len(drawn) > 1


@pytest.mark.parametrize(("strip", "expected"), [(True, "x"), (False, " \nx\t")])
def test_parse_strips_if_asked(tmp_path: Path, strip: bool, expected: str) -> None:
    task = build(tmp_path, strip=strip)
    assert task.parse(task.train_prompts()[0], " \nx\t").parts["answer"] == expected


def test_unknown_field_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.template: unknown placeholder \{promt\}; did you mean 'prompt'\?"):
        build(tmp_path, template="{promt}")


@pytest.mark.parametrize("template", ["Write about rain.", "Write about {prompt", "Write {}", "{{prompt}}"])
def test_a_template_that_shows_no_field_is_told_what_it_may_show(tmp_path: Path, template: str) -> None:
    with pytest.raises(UserError) as caught:
        build(tmp_path, template=template)
    assert str(caught.value) == (
        "task.template: shows no field of the rows, so all 6 prompts are one; write {hint} or {prompt} in it"
    )
    one = build(tmp_path, rows='{"prompt": "x"}', template=template, heldout=0)
    assert len(one.train_prompts()) == 1


def test_field_missing_in_some_rows_names_their_lines(tmp_path: Path) -> None:
    rows = ROWS + '\n{"hint": "g"}\n\n{"prompt": "h"}'
    with pytest.raises(UserError) as caught:
        build(tmp_path, rows=rows, template="{prompt} {hint}")
    file = tmp_path / "prompts.jsonl"
    assert str(caught.value).splitlines() == [
        f"{file}:7: no field 'prompt', which task.template needs",
        f"{file}:9: no field 'hint', which task.template needs",
    ]


def test_python_task_gets_its_options(tmp_path: Path) -> None:
    task = build(tmp_path, kind="python", target=f"{__name__}:TwoPrompts", options={"first": "uno"})
    assert task.train_prompts()[0].text == "uno"


def test_python_target_that_is_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gave NoTask without train_prompts, heldout_prompts"):
        build(tmp_path, kind="python", target=f"{__name__}:NoTask")
    with pytest.raises(UserError, match="gave dict without train_prompts"):  # a builtin tells no signature
        build(tmp_path, kind="python", target="builtins:dict")
    with pytest.raises(UserError, match="is no class or function"):
        build(tmp_path, kind="python", target=f"{__name__}:__name__")
    with pytest.raises(UserError, match=r"cannot be called with \(frist='uno'\): got an unexpected keyword"):
        build(tmp_path, kind="python", target=f"{__name__}:TwoPrompts", options={"frist": "uno"})
