"""Rows of written answers, read and checked; needs no tokenizer and no torch.

{"messages": [{"role": "user", "content": ...}, ..., {"role": "assistant", "content": ...}]}
{"prompt": text or messages, "completion": text or messages}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollouts.sources import KIND_OF, BadRowError, check_text, parse_lines, parse_object

Message = Mapping[str, str]

ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class SFTRow:
    """A conversation that ends with the assistant; `where` is file and line.

    literal: prompt and completion as they stand, where the recipe applies no chat template; messages are empty then.
    """

    messages: tuple[Message, ...]
    where: str
    literal: tuple[str, str] | None = None


def read_sft_rows(file: Path, *, apply_chat_template: bool) -> list[SFTRow]:
    """All rows of a JSONL file, in its order.

    Raises:
        UserError: one line per fault, each with file and line.
    """
    if not apply_chat_template:
        return [SFTRow((), where, literal) for literal, where in parse_lines(file, _parse_literal, "rows")]
    return [SFTRow(messages, where) for messages, where in parse_lines(file, _parse_messages, "rows")]


def _parse_literal(line: str) -> tuple[str, str]:
    row = _object(line)
    if "messages" in row:
        raise BadRowError("`messages` need a chat template; set sft.apply_chat_template: true, or write texts")
    return _text("prompt", row["prompt"]), _text("completion", row["completion"])


def _parse_messages(line: str) -> tuple[Message, ...]:
    row = _object(line)
    if "messages" in row:
        messages = _messages("messages", row["messages"])
    else:
        messages = _part("prompt", row["prompt"], "user") + _part("completion", row["completion"], "assistant")
        if any(message["role"] != "assistant" for message in messages[-1:]):
            raise BadRowError("'completion' must end with a message of the assistant")
    if messages[-1]["role"] != "assistant":
        raise BadRowError("the last message must be the assistant's")
    if messages[0]["role"] == "assistant":
        raise BadRowError("the first message is the assistant's; an answer needs something to answer")
    return tuple(messages)


def _object(line: str) -> dict[str, Any]:
    """The row, with exactly the keys of one of the two forms."""
    row = parse_object(line)
    if set(row) not in ({"messages"}, {"prompt", "completion"}):
        keys = ", ".join(repr(key) for key in row) or "none"
        raise BadRowError(f"must have the key 'messages', or 'prompt' and 'completion', and nothing else; has {keys}")
    return row


def _part(name: str, value: Any, role: str) -> list[Message]:
    return _messages(name, value) if isinstance(value, list) else [{"role": role, "content": _text(name, value)}]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRowError(f"{name!r} is {_kind(value)}; write a text")
    if not value:
        raise BadRowError(f"{name!r} is empty")
    check_text(name, value)
    return value


def _messages(name: str, value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRowError(f"{name!r} is {_kind(value) if value != [] else 'empty'}; write a list of messages")
    return [_message(f"{name}[{number}]", item) for number, item in enumerate(value)]


def _message(name: str, value: Any) -> Message:
    if not isinstance(value, dict) or set(value) != {"role", "content"}:
        raise BadRowError(f"{name} must be an object with 'role' and 'content', and nothing else")
    role = value["role"]
    if role not in ROLES:
        raise BadRowError(f"{name}: role {str(role)[:60]!r} is none of {', '.join(ROLES)}")
    return {"role": role, "content": _text(f"{name}.content", value["content"])}


def _kind(value: Any) -> str:
    return KIND_OF.get(type(value), "a number" if isinstance(value, int | float) else "a text")


def texts_of(row: SFTRow) -> Sequence[str]:
    """Every text of a row, in order; what is held out is drawn by them."""
    if row.literal is not None:
        return row.literal
    return [part for message in row.messages for part in (message["role"], message["content"])]
