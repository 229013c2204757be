"""The JSON Schema of a recipe, for editors: `python -m recipes.schema_file` writes recipes/podium.schema.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recipes.schema import Recipe

SCHEMA_FILE = Path(__file__).with_name("podium.schema.json")


def recipe_schema() -> dict[str, Any]:
    """The schema that an editor completes and checks by.

    Looser than `podium check` in two ways, because a recipe may leave out what it `extends`: only a recipe without
    `extends` must have the required top-level keys, and a section need not name its kind again.
    """
    schema = Recipe.model_json_schema()
    required = schema["required"]
    schema = _loosened(schema)
    schema["properties"]["extends"] = {
        "description": "Another recipe, relative to this file; this one's keys are laid over it.",
        "title": "Extends",
        "type": "string",
    }
    schema["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    return json.dumps(recipe_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _loosened(schema: Any) -> Any:
    """Without `required`, and `oneOf` as `anyOf`: a section without its kind fits several."""
    if isinstance(schema, list):
        return [_loosened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    is_object = schema.get("type") == "object"
    return {
        "anyOf" if key == "oneOf" else key: _loosened(value)
        for key, value in schema.items()
        if key != "discriminator" and not (is_object and key == "required")
    }


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
