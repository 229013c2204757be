from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards.errors import UserError
from rl.sft_rows import SFTRow, read_sft_rows


def read(folder: Path, *rows: Any, apply_chat_template: bool = True) -> list[SFTRow]:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return read_sft_rows(file, apply_chat_template=apply_chat_template)


def turn(role: str, content: str = "x") -> dict[str, str]:
    return {"role": role, "content": content}


def test_every_form_becomes_a_conversation(tmp_path: Path) -> None:
    user, assistant = turn("user", "a"), turn("assistant", "b")
    rows = read(
        tmp_path,
        {"messages": [user, assistant]},
        {"prompt": "a", "completion": "b"},
        "",
        {"prompt": [user], "completion": "b"},
        {"prompt": "a", "completion": [assistant]},
    )
    assert [row.messages for row in rows] == [(user, assistant)] * 4
    assert [row.where.rpartition(":")[2] for row in rows] == ["1", "2", "4", "5"]


def test_literal_rows_keep_their_texts(tmp_path: Path) -> None:
    (row,) = read(tmp_path, {"prompt": "a", "completion": "b"}, apply_chat_template=False)
    assert (row.literal, row.messages) == (("a", "b"), ())
    with pytest.raises(UserError, match=r"rows\.jsonl:1: `messages` need a chat template"):
        read(tmp_path, {"messages": [turn("assistant")]}, apply_chat_template=False)
    with pytest.raises(UserError, match="'prompt' is a list; write a text"):
        read(tmp_path, {"prompt": [turn("user")], "completion": "b"}, apply_chat_template=False)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ({"text": "a"}, "must have the key 'messages', or 'prompt' and 'completion', and nothing else; has 'text'"),
        ({"messages": [], "id": 3}, "nothing else; has 'messages', 'id'"),
        ({"prompt": "a"}, "must have the key 'messages'"),
        ({"messages": []}, "'messages' is empty"),
        ({"messages": "a"}, "'messages' is a text; write a list of messages"),
        ({"messages": [turn("user")]}, "the last message must be the assistant's"),
        ({"messages": [turn("assistant")]}, "the first message is the assistant's"),
        ({"messages": [turn("boss"), turn("assistant")]}, "messages[0]: role 'boss' is none of system"),
        ({"messages": [turn("user"), {"role": "assistant"}]}, "messages[1] must be an object with 'role' and"),
        ({"messages": [turn("user"), turn("assistant", "")]}, "'messages[1].content' is empty"),
        ({"prompt": "a", "completion": None}, "'completion' is null; write a text"),
        ({"prompt": 3, "completion": "b"}, "'prompt' is a number; write a text"),
        ({"prompt": "a", "completion": [turn("user")]}, "'completion' must end with a message of the assistant"),
        ({"prompt": "a", "completion": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: Any, rule: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, {"prompt": "a", "completion": "b"}, row, "nonsense")
    first, second = str(caught.value).splitlines()
    assert "rows.jsonl:2: " in first
    assert rule in first
    assert "rows.jsonl:3: not valid JSON" in second


def test_an_empty_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows in it"):
        read(tmp_path, "")
    with pytest.raises(UserError, match=r"gone\.jsonl: cannot be read"):
        read_sft_rows(tmp_path / "gone.jsonl", apply_chat_template=True)
