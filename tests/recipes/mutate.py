"""Random damage to a recipe: values, keys and text, all from one seed."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

import yaml

GARBAGE: list[Any] = [
    None, True, False, 0, 1, -1, 10**30, -(10**12), 0.5, 1e-300, 1e308, float("nan"), float("inf"), "", " ", "x",
    "auto", "python", "häßlich \u202e \U0001f600", "a\nb\tc", "../..", "/", "~", "x" * 5000, "{text}", "${HOME}", "0",
    "true", "yes",
    [], {}, [[]], [1, "a", None], {"kind": "python"}, {"kind": None}, {"a": {"b": {"c": [1, {"d": 2}]}}}, ["x"] * 300,
]  # fmt: skip

SNIPPETS = [
    "\t", "- ", ": ", "?", "&a ", "*a ", "!!str ", "<<: ", "{", "}", "[", "]", "'", '"', "|\n", "#", "---\n",
    "...\n", "%YAML 9\n",    "\x00", "\x07", "\ufeff", "\u2028", "é", "kind: embedding\n", "extends: full.yaml\n", 
    "extends: no.yaml\n", "  ", "\n", "{a: " * 40,
]  # fmt: skip


def mutated(text: str, seed: int) -> str:
    """The recipe in `text` with one to three wounds."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 3)):
            text = _wound_text(text, rng)
        return text
    values = copy.deepcopy(_values(text))
    for _ in range(rng.randint(1, 3)):
        _wound_values(values, rng)
    return yaml.dump(values, allow_unicode=rng.random() < 0.5, sort_keys=False)


@cache
def _values(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.replace("1e-8", "1.0e-08").replace("2e-5", "2.0e-05"))


def _wound_values(values: dict[str, Any], rng: random.Random) -> None:
    owner, key = rng.choice(_places(values))
    match rng.choice(["replace", "replace", "delete", "rename", "insert", "negate", "grow", "swap", "wrap"]):
        case "replace":
            owner[key] = copy.deepcopy(rng.choice(GARBAGE))
        case "delete":
            del owner[key]
        case "rename" if isinstance(owner, dict):
            letters = list(str(key))
            letters.insert(rng.randrange(len(letters) + 1), rng.choice("aez_. é"))
            owner["".join(letters)] = owner.pop(key)
        case "insert" if isinstance(owner, dict):
            owner[rng.choice(["kind", "extra", "extends", "lr", "", "a b", "ключ", 7, None, True])] = rng.choice(
                GARBAGE
            )
        case "negate" if isinstance(owner[key], (int, float)):
            owner[key] = -owner[key]
        case "grow" if isinstance(owner[key], (int, float)):
            owner[key] = owner[key] * rng.choice([2, 1000, 10**15])
        case "swap":
            other, place = rng.choice(_places(values))
            owner[key] = copy.deepcopy(other[place])
        case _:
            owner[key] = [owner[key]]


def _places(values: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below `values`."""
    pairs = (
        list(values.items())
        if isinstance(values, dict)
        else list(enumerate(values))
        if isinstance(values, list)
        else []
    )
    return [place for key, value in pairs for place in [(values, key), *_places(value)]]


def _wound_text(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or ["\n"]
    at = rng.randrange(len(lines))
    match rng.choice(["snippet", "snippet", "drop", "double", "indent", "cut", "glue"]):
        case "snippet":
            column = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:column] + rng.choice(SNIPPETS) + lines[at][column:]
        case "drop":
            del lines[at]
        case "double":
            lines.insert(rng.randrange(len(lines)), lines[at])
        case "indent":
            lines[at] = " " * rng.randint(1, 5) + lines[at]
        case "cut":
            return "".join(lines)[: rng.randrange(len(text) + 1)]
        case _:
            lines[at] = lines[at].rstrip("\n")
    return "".join(lines)
