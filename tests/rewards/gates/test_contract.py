"""What every kind of gate keeps: one passing and one failing answer each, hard and soft, whole text and part."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rewards.gate_config import GateConfig, gate_fields, gate_name
from rewards.gates import LOOKS, build_gates
from rewards.strict import config_kinds
from rewards.types import Candidate
from tests.rewards.gates.asking import hard, soft, with_parts

PLUGIN = "tests.rewards.gates.plugin"
ENGLISH = "The house of the mayor is on the hill, and it was not for sale."
GERMAN = "Das Haus des Bürgermeisters ist auf dem Hügel, und es war nicht zu verkaufen."

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "length": ({"min_words": 2}, "two words", "one"),
    "language": ({"language": "en"}, ENGLISH, GERMAN),
    "json_schema": ({"rules": {"type": "object", "required": ["a"]}}, '{"a": 1}', '{"b": 1}'),
    "pattern": ({"required": ["[0-9]+"], "forbidden": ["(?i)sorry"]}, "it is 7", "Sorry, it is 7"),
    "copy_ratio": ({"ngram": 2, "field": "text"}, "another thing", "the source"),
    "repetition": ({"ngram": 1, "max_ratio": 0.5}, "all words differ", "no no no no"),
    "exact_answer": ({"field": "answer"}, "1000.0", "999"),
    "command": (
        {"command": ["grep", "-q", "^good$", "answer.txt"], "network": "allowed", "run_as": "same"},
        "good\n",
        "bad\n",
    ),
    "python": ({"target": f"{PLUGIN}:has_letters"}, "a", "1"),
}
"""Settings, an answer that passes, one that fails."""


def config_of(kind: str, **settings: Any) -> GateConfig:
    return TypeAdapter(GateConfig).validate_json(TypeAdapter(dict[str, Any]).dump_json({"kind": kind, **settings}))


def test_every_kind_has_a_builder_and_a_case() -> None:
    assert list(config_kinds(GateConfig)) == list(LOOKS)
    assert {*CASES, "format"} == set(LOOKS)


@pytest.mark.parametrize("kind", CASES)
def test_hard_and_soft(kind: str) -> None:
    settings, good, bad = CASES[kind]
    config = config_of(kind, **settings)
    assert hard(config, good) is None
    reason = hard(config, bad)
    assert isinstance(reason, str)
    assert reason
    assert 0.0 <= soft(config, bad) < soft(config, good) <= 1.0


@pytest.mark.parametrize("kind", CASES)
def test_of_a_part_only(kind: str) -> None:
    settings, good, bad = CASES[kind]
    if kind == "python":
        with pytest.raises(ValidationError, match="given the whole candidate"):
            config_of(kind, part="answer", **settings)
        return
    config = config_of(kind, part="answer", **settings)
    assert hard(config, with_parts(bad, answer=good)) is None
    assert hard(config, with_parts(good, answer=bad)) is not None
    assert hard(config, with_parts(good)) == "has no part 'answer'"
    assert soft(config, with_parts(good)) == 0.0


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "exact_answer"])
def test_odd_answers_are_answers(kind: str) -> None:
    config = config_of(kind, **CASES[kind][0])
    for text in ("", "\n", "\x00", "\ud800", "[" * 5000, "😀" * 50, "a" * 20_000):
        assert 0.0 <= soft(config, text) <= 1.0


def test_format_reads_what_the_task_parsed() -> None:
    config = config_of("format", parts=["path", "answer"])
    assert hard(config, with_parts(path="p", answer="a")) is None
    assert hard(config, with_parts(path="p", answer=" ")) == "has no part 'answer'"
    assert soft(config, with_parts(path="p")) == 0.5
    assert hard(config, with_parts(malformed="no JSON", path="p", answer="a")) == "malformed: no JSON"
    assert hard(config_of("format"), Candidate("c", "anything")) is None


def test_names_and_order() -> None:
    configs = [config_of("copy_ratio"), config_of("length", name="short", max_words=3), config_of("length")]
    assert [gate.name for gate in build_gates(configs)] == ["copy_ratio", "short", "length"]
    assert [gate_name(config) for config in configs] == ["copy_ratio", "short", "length"]


def test_the_fields_that_gates_read() -> None:
    assert gate_fields(config_of("copy_ratio")) == []
    assert gate_fields(config_of("exact_answer", field="gold")) == [(("field",), "gold")]
    command = config_of("command", command=["true"], field_files={"test_a.py": "tests"})
    assert gate_fields(command) == [(("field_files", "test_a.py"), "tests")]


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("length", {"weight": 2.0}, "weight is a key of soft gates"),
        ("pattern", {}, "give patterns"),
        ("pattern", {"required": ["("]}, "no regular expression"),
        ("exact_answer", {"field": "a", "extract": "["}, "no regular expression"),
        ("json_schema", {"rules": {"type": "objekt"}}, "no JSON Schema: type"),
        ("command", {"command": []}, "at least 1 item"),
        ("command", {"command": ["true"], "answer_file": "../x"}, "match pattern"),
        ("command", {"command": ["true"], "field_files": {"a/b": "t"}}, "match pattern"),
    ],
)
def test_impossible_settings_are_refused(kind: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config_of(kind, **settings)
