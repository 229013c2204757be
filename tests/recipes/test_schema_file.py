"""The schema file for editors is what the code says, and accepts what the code accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from recipes.load import dump_resolved, load_recipe
from recipes.nodes import plain
from recipes.schema_file import SCHEMA_FILE, recipe_schema, schema_text
from recipes.yaml_text import parse_yaml

FULL = Path(__file__).parent / "data" / "full.yaml"


def errors(values: dict[str, Any]) -> list[str]:
    return [error.json_path for error in jsonschema.Draft202012Validator(recipe_schema()).iter_errors(values)]


def test_the_file_is_what_the_code_makes() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run `python -m recipes.schema_file`"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


def test_a_valid_recipe_is_valid_for_editors_too() -> None:
    assert errors(dump_resolved(load_recipe(FULL).recipe)) == []
    node, _ = parse_yaml(FULL.read_text(encoding="utf-8"), "full.yaml", FULL.parent)
    assert node is not None
    assert errors(plain(node)) == []


def test_a_recipe_that_extends_may_leave_out_what_it_inherits() -> None:
    assert (
        errors({"extends": "base.yaml", "rewards": {"judge": {"max_tokens": 64}}, "rl": {"updates_per_step": 2}}) == []
    )
    assert errors({"name": "x"}) == ["$"]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("rl", "num_step", 3),
        ("rl", "num_steps", 0),
        ("rl", "num_steps", "three"),
        ("tracking", "display", "rihc"),
        ("rewards", "judge", {"kind": "embeding", "model": "m"}),
    ],
)
def test_what_is_wrong_is_marked(section: str, key: str, value: object) -> None:
    values = json.loads(json.dumps(dump_resolved(load_recipe(FULL).recipe)))
    values[section][key] = value
    assert errors(values)


def test_keys_are_described() -> None:
    definitions = recipe_schema()["$defs"]
    assert definitions["OptimizerConfig"]["description"].startswith("AdamW")
    assert "step" in definitions["CheckpointConfig"]["properties"]["every"]["description"].lower()
