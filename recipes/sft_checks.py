"""Cross-field checks of the `sft` section. Each yields (key path, rule with its cure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rl.zero import learner_faults

if TYPE_CHECKING:
    from recipes.schema import Recipe


def sft_faults(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], str]]:
    sft = recipe.sft
    if sft is None:
        return
    if sft.num_epochs is not None and sft.num_steps is not None:
        yield ("sft", "num_steps"), "stands beside num_epochs; give one of the two"
    if sft.heldout_data is not None and sft.heldout_share is not None:
        yield ("sft", "heldout_share"), "heldout_data names the held-out rows already; give one of the two"
    if not sft.apply_chat_template and sft.turns != "all":
        yield ("sft", "turns"), "literal rows have one answer each; leave it out, or set apply_chat_template: true"
    if recipe.model.max_context is not None and sft.max_tokens > recipe.model.max_context:
        yield ("sft", "max_tokens"), f"is more than model.max_context {recipe.model.max_context}; lower it"
    if sft.learner.micro_batch_tokens < sft.max_tokens:
        rule = f"one row must fit, and max_tokens is {sft.max_tokens}; raise it, or lower max_tokens"
        yield ("sft", "learner", "micro_batch_tokens"), rule
    if sft.learner.ranks > sft.rows_per_step:
        rule = f"each rank needs a row, but rows_per_step is {sft.rows_per_step}; use fewer ranks or more rows"
        yield ("sft", "learner", "ranks"), rule
    if sft.num_steps is not None and sft.optimizer.warmup_steps > sft.num_steps:
        yield ("sft", "optimizer", "warmup_steps"), f"is longer than the run's {sft.num_steps} steps; shorten it"
    for key, rule in learner_faults(sft.learner):
        yield ("sft", "learner", *key), rule
