"""The wording of recipe errors: one line per fault, `file:line: key.path = value: rule; did you mean 'x'?`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.errors import UserError

MAX_SHOWN = 60
"""Characters of a value or key that a message repeats."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `value` and `hint` are ready to print; empty ones are left out."""

    where: str
    path: tuple[str | int, ...]
    value: str = ""
    rule: str = ""
    hint: str = ""

    def __str__(self) -> str:
        key = ".".join(show_key(part) for part in self.path)
        subject = " = ".join(part for part in (key, self.value) if part)
        line = ": ".join(part for part in (self.where, subject, self.rule) if part)
        return f"{line}; {self.hint}" if self.hint else line


class RecipeError(UserError):
    """A recipe that cannot be run. The text has one line per fault."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


def one_line(text: str, limit: int = 400) -> str:
    """Printable, on one line, cut to `limit` characters."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def show_value(value: Any) -> str:
    """The value as YAML-minded people write it, cut short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return one_line(
                "{" + ", ".join(f"{show_key(k)}: {show_value(v)}" for k, v in value.items()) + "}", MAX_SHOWN
            )
        case list() | tuple():
            return one_line("[" + ", ".join(show_value(item) for item in value) + "]", MAX_SHOWN)
        case _:
            return one_line(repr(value), MAX_SHOWN)


def show_key(key: str | int) -> str:
    return str(key) if isinstance(key, int) or re.fullmatch(r"[\w-]{1,60}", key) else show_value(key)


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word most like this one, if any is like it."""
    close = difflib.get_close_matches(str(word)[:MAX_SHOWN].lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    match = nearest(word, known)
    return f"did you mean '{match}'?" if match else ""


def listing(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


# --- pydantic's error types in our words ------------------------------------------------------------------------

_RULES = {
    "missing": "required, but not given",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of sensible size",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a section of `key: value` lines",
    "model_type": "must be a section of `key: value` lines",
    "model_attributes_type": "must be a section of `key: value` lines",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have {min_length} or more items",
    "too_long": "must have at most {max_length} items",
}

PATTERN_RULES = {
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "must look like `package.module:name`",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "must be up to 64 letters, digits, '.', '_', '-', not starting with a sign",
    r"^[a-z][a-z0-9_]{0,39}$": "must be up to 40 small letters, digits and '_', starting with a letter",
    r"^[A-Za-z0-9][\w.:/-]{0,63}$": "must be up to 64 letters, digits or signs of '._:/-', not starting with a sign",
    r"^[A-Za-z_]\w*$": "must be the name of an environment variable, never the key itself",
    r"^https?://[^\s]+$": "must be an address such as `http://judge:8000/v1`",
    r"\{answer\}": "must hold {answer}, the place where the answer goes",
}
"""Every pattern of the schema in words (a test keeps it complete)."""


def rule_of(kind: str, context: Mapping[str, Any], message: str) -> str:
    """The rule behind a pydantic error of type `kind`; pydantic's own message where we have no better word."""
    if kind == "string_pattern_mismatch":
        return PATTERN_RULES.get(context["pattern"], f"must match {context['pattern']}")
    template = _RULES.get(kind)
    return template.format_map(context) if template else one_line(message[:1].lower() + message[1:])


_BREAKS_RATIO = (
    "is not offered: the learner compares its probability of each token with the one that it was sampled with, and "
)
_CUT_BACK = _BREAKS_RATIO + "vLLM's are from after this cut, the learner's from before it"
_PENALISED = _BREAKS_RATIO + "vLLM's are from after this penalty, the learner's from before it"
_SAMPLE_WIDELY = "remove it; rollouts.temperature reaches both sides"

REFUSED_KEYS = {
    key: (rule, _SAMPLE_WIDELY)
    for keys, rule in (
        (("top_p", "top_k", "min_p", "typical_p"), _CUT_BACK),
        (("repetition_penalty", "presence_penalty", "frequency_penalty"), _PENALISED),
    )
    for key in keys
}
"""Keys of other frameworks' sampling that training leaves out on purpose: (rule, cure)."""

MEANT_KEYS = {
    "model.name": "model.path",
    "rl.learning_rate": "rl.optimizer.lr",
    "rl.batch_size": "rollouts.prompts_per_step",
    "sft.learning_rate": "sft.optimizer.lr",
    "sft.batch_size": "sft.rows_per_step",
}
"""Keys as others call them, and ours, where the nearest in spelling is another one."""

MEANT_VALUES = {"gpu": "cuda"}
"""The same for values."""
