"""From a batch of groups to the micro-batches of one rank: pure and deterministic, so every rank plans for itself.

Shapes: B rollouts, T longest answer, N loss tokens, R rows, L row length (one packed row where prompts are shared).

    groups -> pieces (a prompt with some of its answers, within the token budget)
           -> ranks  (largest piece first, to the rank with the fewest tokens)
           -> micro-batches of the budget; ranks with fewer are filled up with fillers of weight zero

Every rank runs equally many micro-batches, because ZeRO-2 and ZeRO-3 communicate in every pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rl.shared_prefix import Packing, build_packing
from rl.types import TrainGroup, TrainRollout


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """One forward pass. `attention_mask_RL` belongs to padded rows, `packing` to the packed one.

    predict_N: place in the flattened [R * L] rows whose output predicts loss token n; labels_N: that token; slots_N:
    its place in the flattened [B * T] arrays. rollout_ids_B: position of each rollout in the batch, counted through the
    groups. A filler repeats some rollout and must not count.
    """

    input_ids_RL: Tensor
    position_ids_RL: Tensor
    attention_mask_RL: Tensor | None
    packing: Packing | None
    predict_N: Tensor
    labels_N: Tensor
    slots_N: Tensor
    advantages_BT: Tensor
    segment_ids_BT: Tensor
    mask_BT: Tensor
    rollout_logprobs_BT: Tensor
    group_ids_B: Tensor
    rollout_ids_B: tuple[int, ...]
    is_filler: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens of the forward pass, padding included."""
        return self.input_ids_RL.numel()

    def to(self, device: torch.device) -> MicroBatch:
        if device.type == "cpu":
            return self
        tensors = {name: value for name in self.__slots__ if isinstance(value := getattr(self, name), Tensor)}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return replace(self, **moved, packing=self.packing and self.packing.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A prompt with some of its group's answers, each with its number in the batch."""

    group: TrainGroup
    answers: tuple[tuple[int, TrainRollout], ...]

    @property
    def num_tokens(self) -> int:
        return len(self.group.prompt_token_ids) + sum(len(rollout.token_ids) for _, rollout in self.answers)


def build_micro_batches(
    groups: Sequence[TrainGroup],
    *,
    max_tokens: int,
    share_prompt: bool,
    rank: int = 0,
    world_size: int = 1,
    only: frozenset[int] | None = None,
) -> list[MicroBatch]:
    """The micro-batches of `rank`, as many as every other rank has.

    Args:
        max_tokens: budget of a forward pass, padding included; a single rollout that is longer runs alone.
        share_prompt: pack groups into one row with each prompt once; else every rollout is a right-padded row.
        only: positions of the rollouts to run (counted through the groups); default: all.

    Raises:
        ValueError: nothing to run, or a prompt or an answer without tokens.
    """
    numbered = _numbered(groups, only)
    if share_prompt:
        pieces = _pieces(numbered, max_tokens, world_size)
    else:
        pieces = [_Piece(group, (answer,)) for group, answers in numbered for answer in answers]
    per_rank = [_fill(assigned, max_tokens, share_prompt) for assigned in _assign(pieces, world_size)]
    build = _packed if share_prompt else _padded
    batches = [build(batch) for batch in per_rank[rank]]
    missing = max(len(batches) for batches in per_rank) - len(batches)
    if missing:
        shortest = min(pieces, key=lambda piece: piece.num_tokens)
        filler = replace(build([_Piece(shortest.group, shortest.answers[:1])]), is_filler=True)
        batches += [filler] * missing
    return batches


def split_updates(groups: Sequence[TrainGroup], num_updates: int) -> list[list[TrainGroup]]:
    """Consecutive shares of the groups, as even as they get; never an empty one.

    Raises:
        ValueError: no groups.
    """
    if not groups:
        raise ValueError("a step needs at least one group")
    bounds = np.linspace(0, len(groups), min(num_updates, len(groups)) + 1).round().astype(int)
    return [list(groups[start:end]) for start, end in pairwise(bounds)]


def teaching_rollouts(groups: Sequence[TrainGroup]) -> frozenset[int]:
    """Positions of the rollouts with an advantage, counted through the groups."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return frozenset(i for i, rollout in enumerate(rollouts) if rollout.advantages.any())


def _numbered(
    groups: Sequence[TrainGroup], only: frozenset[int] | None
) -> list[tuple[TrainGroup, list[tuple[int, TrainRollout]]]]:
    numbered, next_id = [], 0
    for group in groups:
        if len(group.prompt_token_ids) == 0 or any(len(rollout.token_ids) == 0 for rollout in group.rollouts):
            raise ValueError(f"group {group.group_index}: a prompt or an answer has no tokens")
        answers = [(next_id + i, rollout) for i, rollout in enumerate(group.rollouts)]
        next_id += len(answers)
        kept = [answer for answer in answers if only is None or answer[0] in only]
        if kept:
            numbered.append((group, kept))
    if not numbered:
        raise ValueError("a batch needs at least one rollout")
    return numbered


def _pieces(
    numbered: Sequence[tuple[TrainGroup, list[tuple[int, TrainRollout]]]], max_tokens: int, world_size: int
) -> list[_Piece]:
    """Cuts groups over the budget, or over one rank's fair share of the batch; answers of like length stay together."""
    total = sum(_Piece(group, tuple(answers)).num_tokens for group, answers in numbered)
    limit = min(max_tokens, math.ceil(total / world_size))
    pieces = []
    for group, answers in numbered:
        ordered = sorted(answers, key=lambda answer: (-len(answer[1].token_ids), answer[0]))
        start, used = 0, len(group.prompt_token_ids)
        for end, (_, rollout) in enumerate(ordered):
            if end > start and used + len(rollout.token_ids) > limit:
                pieces.append(_Piece(group, tuple(ordered[start:end])))
                start, used = end, len(group.prompt_token_ids)
            used += len(rollout.token_ids)
        pieces.append(_Piece(group, tuple(ordered[start:])))
    return pieces


def _assign(pieces: Sequence[_Piece], world_size: int) -> list[list[_Piece]]:
    """Longest first to the least loaded rank; ties go by order in the batch and by rank."""
    ranks: list[list[_Piece]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for piece in sorted(pieces, key=lambda piece: (-piece.num_tokens, piece.answers[0][0])):
        rank = loads.index(min(loads))
        ranks[rank].append(piece)
        loads[rank] += piece.num_tokens
    return ranks


def _fill(pieces: Sequence[_Piece], max_tokens: int, share_prompt: bool) -> list[list[_Piece]]:
    """Pieces, longest first, in micro-batches of the budget. Rows are padded to the first, which is the longest."""
    batches: list[list[_Piece]] = []
    used = 0
    for piece in pieces:
        cost = piece.num_tokens if share_prompt or not batches else batches[-1][0].num_tokens
        if not batches or used + cost > max_tokens:
            batches.append([])
            used, cost = 0, piece.num_tokens
        batches[-1].append(piece)
        used += cost
    return batches


def _packed(pieces: Sequence[_Piece]) -> MicroBatch:
    """One row: [prompt][answer][answer]..., blocks one after the other; positions restart behind the prompt."""
    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    before: list[np.ndarray] = []
    offset = 0
    for piece in pieces:
        prompt = np.asarray(piece.group.prompt_token_ids)
        ids.append(prompt)
        positions.append(np.arange(len(prompt)))
        last = offset + len(prompt) - 1
        offset += len(prompt)
        for _, rollout in piece.answers:
            length = len(rollout.token_ids)
            ids.append(np.asarray(rollout.token_ids))
            positions.append(np.arange(len(prompt), len(prompt) + length))
            before.append(np.concatenate([[last], np.arange(offset, offset + length - 1)]))
            offset += length
    packing = build_packing(
        [len(piece.group.prompt_token_ids) for piece in pieces],
        [[len(rollout.token_ids) for _, rollout in piece.answers] for piece in pieces],
    )
    return _finish(
        pieces, np.concatenate(ids)[None], np.concatenate(positions)[None], before, mask_RL=None, packing=packing
    )


def _padded(pieces: Sequence[_Piece]) -> MicroBatch:
    """A row per rollout, right-padded."""
    length = max(piece.num_tokens for piece in pieces)
    ids_RL = np.zeros((len(pieces), length), dtype=np.int64)
    mask_RL = np.zeros((len(pieces), length), dtype=bool)
    before = []
    for row, piece in enumerate(pieces):
        ((_, rollout),) = piece.answers
        prompt_length, size = len(piece.group.prompt_token_ids), piece.num_tokens
        ids_RL[row, :size] = np.concatenate([piece.group.prompt_token_ids, rollout.token_ids])
        mask_RL[row, :size] = True
        before.append(np.arange(row * length + prompt_length - 1, row * length + size - 1))
    positions_RL = np.broadcast_to(np.arange(length), ids_RL.shape)
    return _finish(pieces, ids_RL, positions_RL, before, mask_RL=mask_RL, packing=None)


def _finish(
    pieces: Sequence[_Piece],
    ids_RL: np.ndarray,
    positions_RL: np.ndarray,
    before: Sequence[np.ndarray],
    *,
    mask_RL: np.ndarray | None,
    packing: Packing | None,
) -> MicroBatch:
    """`before`: per rollout, the places that predict its answer tokens."""
    answers = [(piece.group.group_index, number, rollout) for piece in pieces for number, rollout in piece.answers]
    longest = max(len(rollout.token_ids) for _, _, rollout in answers)
    masks = [np.asarray(rollout.loss_mask, dtype=bool) for _, _, rollout in answers]

    def stacked(rows: Sequence[np.ndarray], dtype: type, fill: float = 0) -> Tensor:
        table_BT = np.full((len(rows), longest), fill, dtype=dtype)
        for b, row in enumerate(rows):
            table_BT[b, : len(row)] = row
        return torch.from_numpy(table_BT)

    def at_loss_tokens(rows: Sequence[np.ndarray]) -> Tensor:
        kept = [row[mask] for row, mask in zip(rows, masks, strict=True)]
        return torch.from_numpy(np.concatenate(kept).astype(np.int64))

    slots = [b * longest + np.arange(len(mask)) for b, mask in enumerate(masks)]
    return MicroBatch(
        input_ids_RL=torch.from_numpy(ids_RL.astype(np.int64)),
        position_ids_RL=torch.from_numpy(positions_RL.astype(np.int64)),
        attention_mask_RL=None if mask_RL is None else torch.from_numpy(mask_RL),
        packing=packing,
        predict_N=at_loss_tokens(before),
        labels_N=at_loss_tokens([rollout.token_ids for _, _, rollout in answers]),
        slots_N=at_loss_tokens(slots),
        advantages_BT=stacked([rollout.advantages for _, _, rollout in answers], np.float32),
        segment_ids_BT=stacked([rollout.segment_ids for _, _, rollout in answers], np.int64, fill=-1),
        mask_BT=stacked(masks, np.bool_),
        rollout_logprobs_BT=stacked([rollout.rollout_logprobs for _, _, rollout in answers], np.float32),
        group_ids_B=torch.tensor([group for group, _, _ in answers]),
        rollout_ids_B=tuple(number for _, number, _ in answers),
    )
