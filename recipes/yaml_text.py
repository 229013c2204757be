"""YAML text to nodes: the YAML 1.2 core types, each key once, no anchors, aliases or tags.

PyYAML's own types are YAML 1.1, where `1e-6` is text, `on` and `no` are booleans and `12:30` is the number 750.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from recipes.messages import Fault, one_line, show_value
from recipes.nodes import Node, Scalar, Where

MAX_DEPTH = 32
"""Levels of nesting; the schema has six."""

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BAD_CHARACTERS = re.compile("[\x00\ud800-\udfff]")
_MAX_DIGITS = 40
_CURES = {
    "'\\t'": "; indent with spaces",
    "mapping values are not allowed": "; mend the indentation, or put text with a colon in quotes",
    "expected <block end>": "; mend the indentation",
}


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """Text to PyYAML nodes; refuses on the way what a recipe may not use."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        problem = None
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            problem = "anchors and aliases are not supported; write the value out, or share it through `extends`"
        elif getattr(event, "tag", None) is not None:
            problem = f"the tag {show_value(event.tag)} is not supported; write the plain value"
        elif self.depth >= MAX_DEPTH:
            problem = f"nested deeper than {MAX_DEPTH} levels"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)  # pyright: ignore[reportArgumentType]
        self.depth -= 1
        return node


def parse_yaml(text: str, source: str, base_dir: Path, *, numbered: bool = True) -> tuple[Node | None, list[Fault]]:
    """One YAML document as nodes, with every fault found; None where the text is not YAML at all.

    `source` names the text in messages; `numbered=False` leaves line numbers off (a `--set`).
    """

    def where(mark: Any) -> Where:
        return Where(f"{source}:{mark.line + 1}" if numbered and mark else source, base_dir)

    faults: list[Fault] = []
    try:
        tree = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        return None, [Fault(where(error.problem_mark or error.context_mark).label, (), rule=_reason(error))]
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        label = f"{source}:{line}" if numbered else source
        return None, [Fault(label, (), rule=f"the character U+{int(error.character):04X} is not allowed in YAML")]
    if tree is None:
        return Node(None, where(None)), faults
    return _convert(tree, (), where, faults), faults


def dump_yaml(values: Any) -> str:
    """JSON values as YAML that `parse_yaml` reads back equal."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """PyYAML quotes what YAML 1.1 would take for something else than text; we quote what we would."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(_scalar(text, is_plain=True)[0], str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _reason(error: yaml.MarkedYAMLError) -> str:
    """Our own refusals are plain MarkedYAMLErrors; PyYAML raises its subclasses, whose words get a cure."""
    if type(error) is yaml.MarkedYAMLError:
        return one_line(str(error.problem))
    context = f" {error.context}" if error.context else ""
    cure = next((cure for words, cure in _CURES.items() if words in str(error.problem)), "")
    return one_line(f"not YAML: {error.problem}{context}{cure}")


def _convert(node: Any, path: tuple[str | int, ...], where: Any, faults: list[Fault]) -> Node:
    here = where(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return Node([_convert(item, (*path, i), where, faults) for i, item in enumerate(node.value)], here)
    if isinstance(node, yaml.ScalarNode):
        value, problem = _scalar(node.value, is_plain=node.style is None)
        if problem:
            faults.append(Fault(here.label, path, show_value(node.value), problem))
        return Node(value, here)
    pairs: dict[str, Node] = {}
    for key_node, value_node in node.value:
        key_where = where(key_node.start_mark)
        key = _key(key_node)
        if isinstance(key, Fault):
            faults.append(Fault(key_where.label, path, rule=key.rule))
        elif key in pairs:
            rule = f"written twice, first at {pairs[key].where.label}; keep one"
            faults.append(Fault(key_where.label, (*path, key), rule=rule))
        else:
            pairs[key] = Node(_convert(value_node, (*path, key), where, faults).value, key_where)
    return Node(pairs, here)


def _key(node: Any) -> str | Fault:
    if not isinstance(node, yaml.ScalarNode):
        return Fault("", (), rule="a list or mapping cannot be a key")
    value, problem = _scalar(node.value, is_plain=node.style is None)
    if problem is None and value == "<<":
        problem = "merge keys are not supported; share values through `extends`"
    elif problem is None and not isinstance(value, str):
        problem = "a key is text; put it in quotes if it is meant"
    return Fault("", (), rule=f"the key {show_value(node.value)}: {problem}") if problem else str(value)


def _scalar(text: str, *, is_plain: bool) -> tuple[Scalar, str | None]:
    """The value of a scalar, and what is wrong with it."""
    if _BAD_CHARACTERS.search(text):
        return "", "text with a NUL character or half a surrogate pair"
    if not is_plain:
        return text, None
    if text in _WORDS:
        return _WORDS[text], None
    if len(text) > _MAX_DIGITS and (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
        return text, f"a number of more than {_MAX_DIGITS} digits"
    if _INT.fullmatch(text):
        return int(text, 0 if text[:2] in ("0o", "0x") else 10), None
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")), None
    return text, None
