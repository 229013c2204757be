"""Pairs whose better answer is known, put before the judge, or the members of a panel, among the matches of a run.

A judge cannot tell them from matches: they go the same way, at the same time. They are in no match log and score
nobody; what they say about the judges goes into the health figures, and into a panel's reputation.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.errors import UserError
from rewards.seating import stable_hash
from rewards.types import Candidate, GroupKey, Prompt

EXAMPLE = '{"prompt": "...", "better": "...", "worse": "..."}'


@dataclass(frozen=True, slots=True)
class KnownPair:
    prompt: Prompt
    better: Candidate
    worse: Candidate


@dataclass(frozen=True, slots=True)
class Calibration:
    """per_group: pairs for each group; a fraction is drawn by lot."""

    pairs: tuple[KnownPair, ...]
    per_group: float

    def draw(self, key: GroupKey, seed: int) -> list[tuple[KnownPair, bool]]:
        """Pairs for a group, and whether the better answer is shown first; the same in every process."""
        whole = int(self.per_group)
        lot = stable_hash(seed, "calibration", key) / 2**64
        drawn = [
            stable_hash(seed, "calibration", key, number) for number in range(whole + (lot < self.per_group - whole))
        ]
        return [(self.pairs[number // 2 % len(self.pairs)], number % 2 == 0) for number in drawn]


def load_pairs(
    file: str | os.PathLike[str], base_dir: Path | None = None, *, key: str = "calibration.file"
) -> tuple[KnownPair, ...]:
    """Reads JSON Lines with the texts `prompt`, `better` (or `chosen`) and `worse` (or `rejected`).

    Instead of a text the prompt may be chat messages, and an answer one message, as `podium pairs` prints them.
    A line may have an `id`, and `fields`: what else a judge may read of the prompt, texts by name.

    Args:
        key: what messages call the file.

    Raises:
        UserError: no such file, or a line that is none of these, by number.
    """
    path = (base_dir or Path()) / Path(file).expanduser()
    what = f"{key} {path}".strip()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: texts may hold other line breaks
    except OSError as error:
        raise UserError(f"{what}: cannot be read ({error.strerror}); give a file like {EXAMPLE}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: is no UTF-8 ({error.reason} at byte {error.start}); save it as such") from error
    pairs = [_pair(line, f"{path}:{number}", number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not pairs:
        raise UserError(f"{what}: holds no pair; a line is like {EXAMPLE}")
    return tuple(pairs)


def _pair(line: str, where: str, number: int) -> KnownPair:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is no JSON ({error}); a line is like {EXAMPLE}") from error
    messages: list[dict[str, str]] | None = None
    better = worse = None
    if isinstance(row, dict):
        messages = _messages(row.get("prompt"), "user")
        better, worse = _answer(row.get("better", row.get("chosen"))), _answer(row.get("worse", row.get("rejected")))
    if messages is None or better is None or worse is None:
        raise UserError(
            f"{where}: needs the texts prompt, better and worse, or messages as podium pairs prints them; "
            f"a line is like {EXAMPLE}"
        )
    name, fields = row.get("id", f"calibration-{number}"), row.get("fields", {})
    if not isinstance(name, str | int):
        raise UserError(f"{where}: id is a text or a number, got {name!r}")
    if not isinstance(fields, dict) or not all(isinstance(text, str) for text in fields.values()):
        raise UserError(f"{where}: fields are texts by name, got {fields!r}")
    for text in (*(message["content"] for message in messages), better, worse, *fields.values()):
        if not _is_unicode(text):
            raise UserError(f"{where}: {text!r} has half of a surrogate pair, which is no text; leave it out")
    return KnownPair(
        Prompt(str(name), messages[-1]["content"], tuple(messages), fields),
        Candidate(f"{number}-0", better),
        Candidate(f"{number}-1", worse),
    )


def _messages(said: Any, role: str) -> list[dict[str, str]] | None:
    """Chat messages, or a text as the only one; None for anything else."""
    if isinstance(said, str):
        return [{"role": role, "content": said}]
    messages: list[dict[str, str]] = []
    for one in said if isinstance(said, list) else ():
        who, text = (one.get("role"), one.get("content")) if isinstance(one, dict) else (None, None)
        if not isinstance(who, str) or not isinstance(text, str):
            return None
        messages.append({"role": who, "content": text})
    return messages or None


def _answer(said: Any) -> str | None:
    messages = _messages(said, "assistant")
    return messages[0]["content"] if messages is not None and len(messages) == 1 else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
