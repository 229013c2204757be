"""What the toy recipes of F-GRPO start from: a tiny model over an item vocabulary, and answers that teach the format.

    python -m launch.slate_toy recipes/fgrpo_toy.yaml runs/fgrpo_toy

    recipe --task, with pools of other seeds--> prompts --middling_answer--> OUT/answers.jsonl   (for `podium sft`)
           --topics, items, tags as words--> tiny random Llama          --> OUT/model

The answers are well formed and of middling quality: who wrote them half sees what an item shows, chooses slates of
half the length allowed and ranks carelessly. So RL finds the format in place and something to improve. What the tiny
model takes over of that insight depends on how long it is taught: the form of an answer comes first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from launch import atomic
from recipes.load import load_recipe
from rewards.errors import UserError
from rewards.types import Prompt
from rollouts.config import SlateRankTask, SyntheticPools
from rollouts.tasks.pools import item_name, topic_name
from rollouts.tasks.slate_answer import CLOSE_RANK, CLOSE_SLATE, OPEN_RANK, OPEN_SLATE, TAGS
from rollouts.tasks.slate_rank import build_slate_rank
from rollouts.tiny import build_tiny_model

VOCAB_SIZE = 259
"""Of the tokenizer without words: three control tokens and the bytes."""

SHAPE = {"hidden": 64, "layers": 3, "heads": 2, "kv_heads": 2, "init_std": 0.05, "copy_heads": True, "max_context": 160}
SEED_SHIFT = 1_000_000
"""The answers are to pools of another seed, so that no pool of the recipe has been seen."""

LENGTHS = (0.3, 0.7)
"""Shortest and longest list, as shares of the most that the task allows."""

INSIGHT = (2.0, 1.0)
"""How much a shown topic that matches counts against chance (Gumbel noise of scale 1): when choosing, when ranking."""


def write_start(task: SlateRankTask, out: Path, *, num_answers: int, seed: int) -> None:
    """OUT/model and OUT/answers.jsonl.

    Raises:
        UserError: a task whose pools are not made up.
    """
    source = task.source
    if not isinstance(source, SyntheticPools):
        raise UserError("the toy needs task.source of kind synthetic")
    words = [*TAGS, *(f" {item_name(n)}" for n in range(source.num_ids or source.pool_size))]
    words += [f" {topic_name(n)}" for n in range(source.num_topics)]
    build_tiny_model(out / "model", vocab_size=VOCAB_SIZE, words=words, seed=seed, **SHAPE)
    others = source.model_copy(update={"seed": source.seed + SEED_SHIFT, "num_prompts": num_answers})
    prompts = build_slate_rank(task.model_copy(update={"source": others, "heldout": 0}), seed, out).train
    rng = np.random.default_rng(seed)
    lines = [
        json.dumps({"prompt": prompt.text, "completion": middling_answer(prompt, task, rng)}) + "\n"
        for prompt in prompts
    ]
    atomic.write_bytes(out / "answers.jsonl", "".join(lines).encode())


def middling_answer(prompt: Prompt, task: SlateRankTask, rng: np.random.Generator) -> str:
    """A well-formed answer: items by how often they show the query's topic, plus chance (see `INSIGHT`)."""
    query = prompt.fields["query"]
    items: list[tuple[str, str]] = json.loads(prompt.fields["items"])
    matches = np.array([text.split().count(query) for _, text in items])
    choosing, ranking = (insight * matches + rng.gumbel(size=len(items)) for insight in INSIGHT)
    slate = np.argsort(-choosing)[: _length(min(task.max_slate, len(items)), rng)]
    rank = slate[np.argsort(-ranking[slate])][: _length(min(task.max_rank, len(slate)), rng)]
    chosen, ranked = ("".join(f" {items[at][0]}" for at in block) for block in (slate, rank))
    return f"{OPEN_SLATE}{chosen}{CLOSE_SLATE}{OPEN_RANK}{ranked}{CLOSE_RANK}"


def _length(most: int, rng: np.random.Generator) -> int:
    low, high = (max(1, round(share * most)) for share in LENGTHS)
    return int(rng.integers(low, high + 1))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m launch.slate_toy", description="Write what the toy recipes of F-GRPO start from."
    )
    parser.add_argument("recipe", type=Path, help="a recipe with a slate_rank task over made-up pools")
    parser.add_argument("out", type=Path, help="folder for model/ and answers.jsonl")
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        recipe = load_recipe(options.recipe).recipe
        if not isinstance(recipe.task, SlateRankTask):
            raise UserError(f"{options.recipe}: task.kind is {recipe.task.kind}, not slate_rank")
        options.out.mkdir(parents=True, exist_ok=True)
        write_start(recipe.task, options.out, num_answers=options.answers, seed=options.seed)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    print(f"{options.out / 'model'}, {options.out / 'answers.jsonl'} ({options.answers:,} answers)")


if __name__ == "__main__":
    main()
