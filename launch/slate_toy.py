"""What the toy recipes of F-GRPO start from: a tiny model over an item vocabulary, and answers that teach the format.

    python -m launch.slate_toy recipes/fgrpo_toy.yaml runs/fgrpo_toy

    recipe --task, with pools of other seeds--> prompts --middling_answer--> OUT/answers.jsonl   (for `podium sft`)
           --items, what they show, tags as words--> tiny random Llama  --> OUT/model

The answers are well formed and of middling quality: who wrote them half sees what an item shows, chooses slates of
half the length allowed and ranks carelessly. So RL finds the format in place and something to improve. A slate is
written in the order of the pool, so that a tiny model need not learn which of its items it has named already.

An item that shows a number is one word together with it (" i07:3"), so that to copy the right items a head need not
first learn to carry what stands beside an id to it: with topics as words of their own, a model of this size had not got
there after 1,500 updates.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from launch import atomic
from recipes.load import load_recipe
from rewards.errors import UserError
from rewards.template import parse_pattern
from rewards.types import Prompt
from rollouts.config import SlateRankTask, SyntheticPools
from rollouts.tasks.pools import item_name, topic_name
from rollouts.tasks.slate_answer import CLOSE_RANK, CLOSE_SLATE, OPEN_RANK, OPEN_SLATE, TAGS
from rollouts.tasks.slate_rank import build_slate_rank
from rollouts.tiny import build_tiny_model

VOCAB_SIZE = 259
"""Of the tokenizer without words: three control tokens and the bytes."""

SHAPE = {"hidden": 64, "layers": 2, "heads": 2, "kv_heads": 2, "init_std": 0.05, "copy_heads": True, "max_context": 160}
SEED_SHIFT = 1_000_000
"""The answers are to pools of another seed, so that no pool of the recipe has been seen."""

LENGTHS = (0.3, 0.7)
"""Shortest and longest list, as shares of the most that the task allows."""

INSIGHT = (1.2, 0.6)
"""How much one match counts against chance (Gumbel noise of scale 1): when choosing, when ranking."""

BLIND = (0.0, 0.0)
"""The insight of an answer by chance."""


def write_start(task: SlateRankTask, out: Path, *, num_answers: int, seed: int) -> None:
    """OUT/model and OUT/answers.jsonl.

    Raises:
        UserError: a task whose pools are not made up.
    """
    source = task.source
    if not isinstance(source, SyntheticPools):
        raise UserError("the toy needs task.source of kind synthetic")
    build_tiny_model(out / "model", vocab_size=VOCAB_SIZE, words=_words(task, source), seed=seed, **SHAPE)
    others = source.model_copy(update={"seed": source.seed + SEED_SHIFT, "num_prompts": num_answers})
    prompts = build_slate_rank(task.model_copy(update={"source": others, "heldout": 0}), seed, out).train
    rng = np.random.default_rng(seed)
    lines = [
        json.dumps({"prompt": prompt.text, "completion": middling_answer(prompt, task, rng)}) + "\n"
        for prompt in prompts
    ]
    atomic.write_bytes(out / "answers.jsonl", "".join(lines).encode())


def _words(task: SlateRankTask, source: SyntheticPools) -> list[str]:
    names = [item_name(n) for n in range(source.num_ids or source.pool_size)]
    words = [*TAGS, *(f" {name}" for name in names)]
    if source.shown == "topics":
        return words + [f" {topic_name(n)}" for n in range(source.num_topics)]
    item = parse_pattern(task.item_template, ("id", "text"), "task.item_template")
    counts = [str(n) for n in range(source.topics_per_item + 1)]
    return words + [item.fill({"id": name, "text": count}) for name in names for count in counts]


def middling_answer(
    prompt: Prompt, task: SlateRankTask, rng: np.random.Generator, insight: tuple[float, float] = INSIGHT
) -> str:
    """A well-formed answer: items by how many matches they show, plus chance."""
    names, matches = _shown(prompt, task)
    choosing, ranking = (weight * matches + rng.gumbel(size=len(names)) for weight in insight)
    slate = np.argsort(-choosing)[: _length(min(task.max_slate, len(names)), rng)]
    rank = slate[np.argsort(-ranking[slate])][: _length(min(task.max_rank, len(slate)), rng)]
    return _written(names, np.sort(slate), rank)


def best_answer(prompt: Prompt, task: SlateRankTask) -> str:
    """By matches alone and as long as allowed: what an item shows does not give anybody more, on average."""
    names, matches = _shown(prompt, task)
    order = np.argsort(-matches, kind="stable")
    return _written(names, np.sort(order[: task.max_slate]), order[: task.max_rank])


def _shown(prompt: Prompt, task: SlateRankTask) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Ids in the order of the pool, and the matches that each item shows."""
    items: list[tuple[str, str]] = json.loads(prompt.fields["items"])
    counted = isinstance(task.source, SyntheticPools) and task.source.shown == "matches"
    query = prompt.fields["query"]
    matches = [int(text) if counted else text.split().count(query) for _, text in items]
    return [name for name, _ in items], np.array(matches, dtype=np.int64)


def _written(names: Sequence[str], slate: npt.NDArray[np.int64], rank: npt.NDArray[np.int64]) -> str:
    chosen, ranked = ("".join(f" {names[at]}" for at in block.tolist()) for block in (slate, rank))
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
