"""Which rows are held out and which are learned from in each step: pure functions of the seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence

from rewards.errors import UserError
from rl.sft_config import SFTConfig
from rl.sft_rows import SFTRow, texts_of
from rollouts.prompts import prompt_order
from rollouts.types import IntArray


def split_rows(rows: Sequence[SFTRow], *, share: float, seed: int) -> tuple[list[SFTRow], list[SFTRow]]:
    """Rows to learn from, in their order, and held-out ones, at least one where the share is not 0.

    Who is held out goes by a hash of (seed, texts): equal rows stay together, and a new row moves few others.

    Raises:
        UserError: nothing would be left to learn from.
    """
    if share == 0:
        return list(rows), []
    keys = [_key(row, seed) for row in rows]
    distinct = sorted(set(keys))
    chosen = set(distinct[: max(1, round(share * len(distinct)))])
    train = [row for row, key in zip(rows, keys, strict=True) if key not in chosen]
    if not train:
        raise UserError(
            f"sft.heldout_share = {share}: of {len(distinct)} different rows none is left to learn from; lower it"
        )
    return train, [row for row, key in zip(rows, keys, strict=True) if key in chosen]


def _key(row: SFTRow, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{json.dumps(list(texts_of(row)))}".encode()).digest()


def num_sft_steps(config: SFTConfig, num_rows: int) -> int:
    """`num_steps`, or as many as the epochs take; the last step may be a smaller one."""
    if config.num_steps is not None:
        return config.num_steps
    return math.ceil((config.num_epochs or 1) * num_rows / config.rows_per_step)


def rows_of_step(config: SFTConfig, num_rows: int, *, seed: int, step: int) -> IntArray:
    """Indices of the rows of step `step` (from 1). Every row once an epoch, each epoch in an order of its own."""
    order = prompt_order(num_rows, seed, step - 1, config.rows_per_step)
    if config.num_steps is not None:
        return order
    left = (config.num_epochs or 1) * num_rows - (step - 1) * config.rows_per_step
    return order[:left]
