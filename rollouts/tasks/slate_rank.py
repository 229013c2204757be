"""Choose a slate out of a pool of items and rank the best of it, in one answer (F-GRPO, arXiv 2605.12995)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UserError
from rewards.template import parse_pattern
from rewards.types import ParsedAnswer, Prompt
from rollouts.config import SlateRankTask
from rollouts.prompts import make_prompt, split_prompts
from rollouts.tasks.pools import read_pools
from rollouts.tasks.slate_answer import parse_answer


@dataclass(frozen=True, slots=True)
class SlateRank:
    """Prompts over pools; scorers find the relevant items in the prompt's field `relevant`."""

    train: Sequence[Prompt]
    heldout: Sequence[Prompt]
    config: SlateRankTask

    def train_prompts(self) -> Sequence[Prompt]:
        return self.train

    def heldout_prompts(self) -> Sequence[Prompt]:
        return self.heldout

    def parse(self, prompt: Prompt, answer: str) -> ParsedAnswer:
        config = self.config
        return parse_answer(
            answer,
            {name for name, _ in json.loads(prompt.fields["items"])},
            max_slate=config.max_slate,
            max_rank=config.max_rank,
            segments=config.segments,
            preamble=config.preamble,
        )


def build_slate_rank(config: SlateRankTask, seed: int, base_dir: Path) -> SlateRank:
    """Raises UserError: faults of the source or of a template."""
    names = ("query", "items", "max_slate", "max_rank")
    pattern = parse_pattern(config.template, names, "task.template")
    if "items" not in pattern.names:
        raise UserError("task.template: {items} is missing; the model would not see what it is to choose from")
    item = parse_pattern(config.item_template, ("id", "text"), "task.item_template")
    limits = {"max_slate": str(config.max_slate), "max_rank": str(config.max_rank)}
    system = [] if config.system is None else [{"role": "system", "content": config.system}]
    prompts: list[Prompt] = []
    for row in read_pools(config.source, base_dir, max_items=config.max_items):
        shown = "".join(item.fill({"id": name, "text": text}) for name, text in json.loads(row.fields["items"]))
        content = pattern.fill({"query": row.fields["query"], "items": shown} | limits)
        prompts.append(make_prompt([*system, {"role": "user", "content": content}], row.fields))
    train, heldout = split_prompts(prompts, heldout=config.heldout, seed=seed)
    return SlateRank(train=train, heldout=heldout, config=config)
