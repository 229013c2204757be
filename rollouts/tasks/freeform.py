"""Write an answer to a prompt; the whole answer is ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UserError
from rewards.template import Pattern, parse_pattern
from rewards.types import ParsedAnswer, Prompt
from rollouts.config import FreeformTask
from rollouts.prompts import make_prompt, split_prompts
from rollouts.sources import Row, raise_faults, read_rows


@dataclass(frozen=True, slots=True)
class Freeform:
    """A fixed set of prompts; an answer is its own text, the part `answer`."""

    train: Sequence[Prompt]
    heldout: Sequence[Prompt]
    strip: bool

    def train_prompts(self) -> Sequence[Prompt]:
        return self.train

    def heldout_prompts(self) -> Sequence[Prompt]:
        return self.heldout

    def parse(self, prompt: Prompt, answer: str) -> ParsedAnswer:
        text = answer.strip() if self.strip else answer
        return ParsedAnswer(parts={"answer": text})


def build_freeform(config: FreeformTask, seed: int, base_dir: Path) -> Freeform:
    rows = read_rows(config.source, base_dir)
    known = {name for row in rows for name in row.fields}
    pattern = parse_pattern(config.template, known, "task.template")
    if not pattern.names and len(rows) > 1:
        shown = " or ".join(f"{{{name}}}" for name in sorted(known)[:4]) or "a field"
        raise UserError(
            f"task.template: shows no field of the rows, so all {len(rows)} prompts are one; write {shown} in it"
        )
    raise_faults([fault for row in rows for fault in _missing_fields(row, pattern)])
    system = [] if config.system is None else [{"role": "system", "content": config.system}]
    prompts = [
        make_prompt([*system, {"role": "user", "content": pattern.fill(row.fields)}], row.fields) for row in rows
    ]
    train, heldout = split_prompts(prompts, heldout=config.heldout, seed=seed)
    return Freeform(train=train, heldout=heldout, strip=config.strip)


def _missing_fields(row: Row, pattern: Pattern) -> list[str]:
    missing = dict.fromkeys(name for name in pattern.names if name not in row.fields)
    return [f"{row.where}: no field {name!r}, which task.template needs" for name in missing]
