"""What a rubric judge lets its model read: task, answers or their parts, and criteria; each text in its own fence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UserError
from rewards.list_template import ListTemplate, load_list_template
from rewards.rubric_config import Criterion, RubricJudge
from rewards.template import Pattern
from rewards.types import Candidate, Message, Prompt

CHOICES = ("choice_first", "choice_second")
BOUNDS = ("min_criteria", "max_criteria", "guidance")
COMPARE_TEXTS = ("criteria", *CHOICES)
PAIR_TEXTS = ("criteria", *CHOICES, *BOUNDS)
WRITE_TEXTS = ("criteria", *BOUNDS)
DATA = ("prompt",)
"""Placeholders, beside those of `rewards/list_template.py`."""

NONE = "(none)"


@dataclass(frozen=True, slots=True)
class RubricPrompts:
    """compare: criteria that a model wrote once per prompt are data there, not words of ours. version: of templates."""

    config: RubricJudge
    compare: ListTemplate
    write: ListTemplate | None
    version: str

    def comparison(
        self, prompt: Prompt, first: Candidate, second: Candidate, criteria: Sequence[Criterion], *, seed: int
    ) -> list[Message]:
        items = [item for label, one in zip("AB", (first, second), strict=True) for item in self._items(label, one)]
        texts = {"choice_first": "A", "choice_second": "B", **self._bounds()}
        data = {"prompt": prompt.text}
        (data if self.config.criteria_from == "prompt" else texts)["criteria"] = listed(criteria, self.config)
        return self.compare.render(texts, data, items, seed=seed)[0]

    def writing(self, prompt: Prompt, members: Sequence[Candidate], *, seed: int) -> list[Message]:
        """members: at most 26."""
        assert self.write is not None
        items = [item for number, one in enumerate(members) for item in self._items(chr(ord("A") + number), one)]
        texts = {"criteria": listed(self.config.rubric.criteria, self.config), **self._bounds()}
        return self.write.render(texts, {"prompt": prompt.text}, items, seed=seed)[0]

    def _items(self, label: str, candidate: Candidate) -> list[tuple[str, str]]:
        """The answer, or its path and its answer where both count. An answer without a path took no steps."""
        if not self.config.rubric.part_weights:
            return [(label, candidate.text)]
        parts = candidate.parsed.parts
        return [
            (f"{label}, its path", parts.get("path", "")),
            (f"{label}, what it says in the end", parts.get("answer", candidate.text)),
        ]

    def _bounds(self) -> dict[str, str]:
        config = self.config
        return {
            "min_criteria": str(config.min_criteria),
            "max_criteria": str(config.max_criteria),
            "guidance": config.guidance,
        }


def listed(criteria: Sequence[Criterion], config: RubricJudge) -> str:
    """One line per criterion, as the model reads them."""
    of_part = {"path": " (look at the path)", "answer": " (look at what is said in the end)"}
    with_parts = bool(config.rubric.part_weights)
    lines = [
        f"- {c.id} ({c.type}, 0 to {c.scale}): {' '.join(c.text.split())}{of_part[c.part] if with_parts else ''}"
        for c in criteria
    ]
    return "\n".join(lines) or NONE


def load_prompts(config: RubricJudge, base_dir: Path | None) -> RubricPrompts:
    """Raises UserError where a template is at fault, or begins the model's answer for it."""
    source = config.criteria_from
    name = config.template or ("rubric_pair" if source == "pair" else "rubric")
    texts, data = (PAIR_TEXTS if source == "pair" else COMPARE_TEXTS), DATA
    if source == "prompt":
        texts, data = CHOICES, (*DATA, "criteria")
    compare = load_list_template(name, texts=texts, data=data, base_dir=base_dir)
    write = None
    if source == "prompt":
        write = load_list_template(config.write_template, texts=WRITE_TEXTS, data=DATA, base_dir=base_dir)
    for named, template in ((name, compare), (config.write_template, write)):
        if template is not None and template.template.prefill != Pattern(("",), ()):
            raise UserError(f"template {named!r}: a rubric judge begins its own answer; leave `# assistant` out")
    return RubricPrompts(config, compare, write, hashlib.sha256(repr((compare, write)).encode()).hexdigest()[:16])
