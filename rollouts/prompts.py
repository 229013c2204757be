"""Prompts of a run: stable ids, the split into training and held-out prompts, and the order they are trained in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from rewards.errors import UserError
from rewards.types import Prompt
from rollouts.types import IntArray

_ORDER_STREAM = 0x0DE2
_REFILL_STREAM = 0x0F11
"""Keep the generators of the two orders apart from others that are seeded with the run's seed."""


def make_prompt(messages: Sequence[Mapping[str, str]], fields: Mapping[str, str]) -> Prompt:
    """A prompt from its chat messages; its text is the last message, its id a hash of all of them."""
    return Prompt(
        id=prompt_id(messages),
        text=messages[-1]["content"],
        messages=tuple(dict(message) for message in messages),
        fields=dict(fields),
    )


def prompt_id(messages: Sequence[Mapping[str, str]]) -> str:
    """16 hexadecimal digits that depend on what the policy reads, and on nothing else."""
    content = json.dumps([[message["role"], message["content"]] for message in messages])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def split_prompts(prompts: Sequence[Prompt], *, heldout: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """Training prompts in the order given, and `heldout` others in the order drawn.

    Prompts with equal ids count once (the first stays). Who is held out is the order of a hash of (seed, id): it does
    not depend on the order of the rows or on fields that the prompt does not show, and adding a row moves few others.

    Raises:
        UserError: nothing would be left to train on.
    """
    first_of: dict[str, Prompt] = {}
    for prompt in prompts:
        first_of.setdefault(prompt.id, prompt)
    unique = list(first_of.values())
    if heldout >= len(unique):
        raise UserError(
            f"task.heldout = {heldout}: the source has {len(unique)} different prompts, so none is left to train on; "
            "lower it or add prompts"
        )
    drawn = sorted(unique, key=lambda prompt: hashlib.sha256(f"{seed}:{prompt.id}".encode()).digest())[:heldout]
    chosen = {prompt.id for prompt in drawn}
    return [prompt for prompt in unique if prompt.id not in chosen], drawn


def prompt_order(num_prompts: int, seed: int, step: int, prompts_per_step: int) -> IntArray:
    """Indices of the prompts of `step` (from 0): int32 [prompts_per_step].

    Steps walk through an endless sequence of epochs, each a permutation of all prompts of its own, so every prompt is
    seen once before any is seen twice. A pure function: a resumed run goes on where it stopped. A step that crosses
    the end of an epoch may hold a prompt twice.
    """
    if num_prompts < 1 or step < 0:
        raise ValueError(f"no prompts to order: num_prompts={num_prompts}, step={step}")
    start, end = step * prompts_per_step, (step + 1) * prompts_per_step
    first_epoch, last_epoch = start // num_prompts, max(start, end - 1) // num_prompts
    sequence = np.concatenate(
        [
            np.random.default_rng([_ORDER_STREAM, seed, epoch]).permutation(num_prompts)
            for epoch in range(first_epoch, last_epoch + 1)
        ]
    )
    offset = first_epoch * num_prompts
    return sequence[start - offset : end - offset].astype(np.int32)


def refill_order(num_prompts: int, seed: int, step: int, prompts_per_step: int, *, refill: int, num: int) -> IntArray:
    """Indices of the `num` prompts that refill 1, 2, .. of `step` (from 0) puts in the place of others: int32 [num].

    A shuffle of all prompts that belongs to the step, those of the step's own order last, cut into pieces of
    `prompts_per_step`, one per refill; with few prompts it starts again. The order of later steps stays as it is.
    """
    if not 0 <= num <= prompts_per_step or refill < 1:
        raise ValueError(f"refill {refill} of {num} groups in a step of {prompts_per_step}")
    shuffled = np.random.default_rng([_REFILL_STREAM, seed, step]).permutation(num_prompts)
    own = np.isin(shuffled, prompt_order(num_prompts, seed, step, prompts_per_step))
    sequence = np.concatenate([shuffled[~own], shuffled[own]])
    start = (refill - 1) * prompts_per_step
    return sequence[np.arange(start, start + num) % num_prompts].astype(np.int32)
