"""The rows of `podium sft`, from their files to token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.schema import Recipe
from rewards.errors import UserError
from rl.sft_config import SFTConfig
from rl.sft_rows import SFTRow, read_sft_rows
from rl.sft_schedule import split_rows
from rollouts.dialogue import Dialogue, encode_dialogue, encode_literal
from rollouts.sources import raise_faults

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def sft_section(recipe: Recipe) -> SFTConfig:
    """The recipe's `sft`. Raises UserError where there is none."""
    if recipe.sft is None:
        raise UserError("sft: the recipe has no such section; add one with at least `data: FILE.jsonl`")
    return recipe.sft


def read_rows(config: SFTConfig, *, seed: int) -> tuple[list[SFTRow], list[SFTRow]]:
    """Rows to learn from and held-out rows.

    Raises:
        UserError: one line per fault, each with file and line; or no row is left to learn from.
    """
    rows = read_sft_rows(Path(config.data), apply_chat_template=config.apply_chat_template)
    if config.heldout_data is not None:
        return rows, read_sft_rows(Path(config.heldout_data), apply_chat_template=config.apply_chat_template)
    return split_rows(rows, share=config.share, seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class SFTData:
    """Encoded rows. num_skipped: rows longer than `sft.max_tokens`. digest: of the files, so that a resume can tell."""

    train: tuple[Dialogue, ...]
    heldout: tuple[Dialogue, ...]
    num_skipped: int
    digest: str

    @property
    def num_tokens(self) -> int:
        """Of the rows to learn from, prompts included."""
        return sum(dialogue.num_tokens for dialogue in self.train)

    @property
    def num_learned_tokens(self) -> int:
        return sum(int(dialogue.loss_mask.sum()) for dialogue in self.train)


def encode_data(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> SFTData:
    """Read and encode all rows.

    Raises:
        UserError: one line per row that is at fault or, unless they are to be skipped, too long.
    """
    train_rows, heldout_rows = read_rows(config, seed=seed)
    train, num_long = _encode(train_rows, config, tokenizer)
    heldout, num_long_heldout = _encode(heldout_rows, config, tokenizer)
    if not train:
        raise UserError(f"sft.data: all {num_long} rows are longer than sft.max_tokens = {config.max_tokens}; raise it")
    return SFTData(train, heldout, num_long + num_long_heldout, _digest(config))


def _encode(
    rows: Sequence[SFTRow], config: SFTConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[Dialogue, ...], int]:
    dialogues: list[Dialogue] = []
    faults: list[str] = []
    num_long = 0
    for row in rows:
        try:
            if row.literal is not None:
                dialogue = encode_literal(tokenizer, *row.literal)
            else:
                dialogue = encode_dialogue(tokenizer, row.messages, only_last=config.turns == "last")
        except UserError as error:
            faults.append(f"{row.where}: {error}")
            continue
        if dialogue.num_tokens <= config.max_tokens:
            dialogues.append(dialogue)
        elif config.too_long == "skip":
            num_long += 1
        else:
            faults.append(
                f"{row.where}: {dialogue.num_tokens} tokens, more than sft.max_tokens = {config.max_tokens}; raise it, "
                "shorten the row, or set sft.too_long: skip"
            )
    raise_faults(faults)
    return tuple(dialogues), num_long


def _digest(config: SFTConfig) -> str:
    digest = hashlib.sha256()
    for name in (config.data, config.heldout_data):
        if name is not None:
            with open(name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
