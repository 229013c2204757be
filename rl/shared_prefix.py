"""Attention over packed groups: every prompt is run once, and its answers attend to it.

Shapes: L packed tokens, A heads, K key/value heads, D head size, Q prompts, R answers, P longest prompt, T longest
answer, M = Q*P + R*T places of the padded layout.

    packed tokens   [prompt 1][answer 1][answer 2][prompt 1 again or prompt 2][answer 3] ...  linear layers: no padding
                         |         |
    padded layout   prompts [Q, P], answers [R, T]                                            attention only
                    prompt queries  -> own prompt, causally
                    answer queries  -> own prompt, and own answer causally

What an answer token sees is what it would see in a sequence of its own, so logprobs and gradients are the same; the
work on prompts is divided by the group size, and no attention score between two answers is ever computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rewards.errors import UserError

NAME = "podium_shared_prefix"
"""Name of this attention in transformers' registry."""

MAX_SCORE_BYTES = 64 * 2**20
"""Up to this size of the score matrix a CPU is faster with plain matrix products than with its fused attention."""

WITHOUT_EFFECT = frozenset({"dropout", "position_ids", "use_cache", "is_causal", "output_attentions"})
"""What models hand to their attention and this one need not know: the policy has no dropout, no cache and only causal
layers, and positions are in queries and keys already."""


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Where the packed tokens lie in the padded layout.

    places_M: packed position at each padded place, 0 where there is only padding. packed_L: padded place of each packed
    position. prompt_R: the prompt that each answer continues. mask_R1TX (X = P+T): keys an answer's query may see.
    """

    num_prompts: int
    prompt_length: int
    answer_length: int
    places_M: Tensor
    packed_L: Tensor
    prompt_R: Tensor
    mask_R1TX: Tensor

    def to(self, device: torch.device) -> Packing:
        moved = (self.places_M, self.packed_L, self.prompt_R, self.mask_R1TX)
        return Packing(
            self.num_prompts, self.prompt_length, self.answer_length, *(tensor.to(device) for tensor in moved)
        )


def build_packing(prompt_lengths: list[int], answer_lengths: list[list[int]]) -> Packing:
    """The layout of `[prompt][answer][answer]...` blocks that follow each other in one row.

    Args:
        prompt_lengths: tokens of each block's prompt.
        answer_lengths: per block, tokens of each of its answers.
    """
    longest_prompt = max(prompt_lengths)
    longest_answer = max(length for lengths in answer_lengths for length in lengths)
    num_prompts, num_answers = len(prompt_lengths), sum(len(lengths) for lengths in answer_lengths)
    num_packed = sum(prompt_lengths) + sum(length for lengths in answer_lengths for length in lengths)
    answers_start = num_prompts * longest_prompt
    places_M = np.zeros(answers_start + num_answers * longest_answer, dtype=np.int64)
    packed_L = np.zeros(num_packed, dtype=np.int64)
    prompt_R, prompt_lengths_R = np.zeros(num_answers, dtype=np.int64), np.zeros(num_answers, dtype=np.int64)

    def lay(packed: int, place: int, length: int) -> int:
        places_M[place : place + length] = np.arange(packed, packed + length)
        packed_L[packed : packed + length] = np.arange(place, place + length)
        return packed + length

    packed = answer = 0
    for prompt, (prompt_length, lengths) in enumerate(zip(prompt_lengths, answer_lengths, strict=True)):
        packed = lay(packed, prompt * longest_prompt, prompt_length)
        for length in lengths:
            packed = lay(packed, answers_start + answer * longest_answer, length)
            prompt_R[answer], prompt_lengths_R[answer] = prompt, prompt_length
            answer += 1

    sees_prompt_RP = np.arange(longest_prompt)[None, :] < prompt_lengths_R[:, None]
    causal_TT = np.tril(np.ones((longest_answer, longest_answer), dtype=bool))
    mask_RTX = np.concatenate(
        [
            np.broadcast_to(sees_prompt_RP[:, None], (num_answers, longest_answer, longest_prompt)),
            np.broadcast_to(causal_TT, (num_answers, longest_answer, longest_answer)),
        ],
        axis=2,
    )
    return Packing(
        num_prompts=num_prompts,
        prompt_length=longest_prompt,
        answer_length=longest_answer,
        places_M=torch.from_numpy(places_M),
        packed_L=torch.from_numpy(packed_L),
        prompt_R=torch.from_numpy(prompt_R),
        mask_R1TX=torch.from_numpy(mask_RTX[:, None]),
    )


def register() -> str:
    """Makes the attention known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, shared_prefix_attention)
    return NAME


def shared_prefix_attention(
    module: nn.Module,
    query_1ALD: Tensor,
    key_1KLD: Tensor,
    value_1KLD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of one packed row [1, L]; the signature is the one of transformers' attention functions.

    Raises:
        UserError: the model's attention has a window that is shorter than a prompt with its answer.
        ValueError: it has something else that is not done here: a mask of its own, sinks, a cap on scores.
    """
    if packing is None:
        raise ValueError(f"attention {NAME!r} needs `packing` in the model's call")
    others["attention_mask"] = attention_mask
    if unknown := [name for name, value in others.items() if value is not None and name not in WITHOUT_EFFECT]:
        raise ValueError(f"attention {NAME!r} does not know the model's {unknown[0]!r}")
    q, p, t = packing.num_prompts, packing.prompt_length, packing.answer_length
    if sliding_window is not None and p + t > sliding_window:
        raise UserError(
            f"rl.learner.share_prompt: the model attends to a window of {sliding_window} tokens, prompt and "
            f"answer have {p + t}; set share_prompt: false"
        )

    def padded(states_1ALD: Tensor) -> tuple[Tensor, Tensor]:
        states_MAD = _Rearrange.apply(states_1ALD[0].transpose(0, 1), packing.places_M, packing.packed_L)
        prompts, answers = states_MAD[: q * p], states_MAD[q * p :]
        return prompts.view(q, p, *prompts.shape[1:]), answers.view(-1, t, *answers.shape[1:])

    query_QPAD, query_RTAD = padded(query_1ALD)
    key_QPKD, key_RTKD = padded(key_1KLD)
    value_QPKD, value_RTKD = padded(value_1KLD)
    causal_11PP = torch.ones(1, 1, p, p, dtype=torch.bool, device=query_QPAD.device).tril_()
    prompts_QPAD = _attend(query_QPAD, key_QPKD, value_QPKD, causal_11PP, scaling)
    answers_RTAD = _attend(
        query_RTAD,
        torch.cat([key_QPKD.index_select(0, packing.prompt_R), key_RTKD], dim=1),
        torch.cat([value_QPKD.index_select(0, packing.prompt_R), value_RTKD], dim=1),
        packing.mask_R1TX,
        scaling,
    )
    output_MAD = torch.cat([prompts_QPAD.flatten(0, 1), answers_RTAD.flatten(0, 1)])
    return output_MAD.index_select(0, packing.packed_L)[None], None


def _attend(query_BTAD: Tensor, key_BXKD: Tensor, value_BXKD: Tensor, mask_B1TX: Tensor, scaling: float) -> Tensor:
    """Softmax attention with grouped key/value heads; every query must see at least one key."""
    b, t, a, d = query_BTAD.shape
    x, k = key_BXKD.shape[1:3]
    if query_BTAD.device.type == "cpu" and b * a * t * x * query_BTAD.element_size() <= MAX_SCORE_BYTES:
        # The query heads that share a key/value head stand below each other: fewer and larger matrix products.
        query_BKGD = query_BTAD.view(b, t, k, a // k, d).permute(0, 2, 3, 1, 4).reshape(b, k, -1, d)
        scores_BKGX = (query_BKGD @ key_BXKD.permute(0, 2, 3, 1)).mul_(scaling)
        scores_BKGX.view(b, k, a // k, t, x).masked_fill_(~mask_B1TX[:, :, None], float("-inf"))
        output_BKGD = scores_BKGX.softmax(-1) @ value_BXKD.transpose(1, 2)
        return output_BKGD.view(b, k, a // k, t, -1).permute(0, 3, 1, 2, 4).flatten(2, 3)
    output_BATD = nn.functional.scaled_dot_product_attention(
        query_BTAD.transpose(1, 2),
        key_BXKD.transpose(1, 2),
        value_BXKD.transpose(1, 2),
        attn_mask=mask_B1TX,
        scale=scaling,
        enable_gqa=a != k,
    )
    return output_BATD.transpose(1, 2)


class _Rearrange(torch.autograd.Function):
    """Packed to padded. The gradient is a gather too, which a CPU does far faster than index_select's own scatter."""

    @staticmethod
    def forward(ctx: Any, states_LAD: Tensor, places_M: Tensor, packed_L: Tensor) -> Tensor:
        ctx.save_for_backward(packed_L)
        return states_LAD.index_select(0, places_M)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        # What flows back to padding is dropped: padding is a copy of some token that nobody attends to.
        (packed_L,) = ctx.saved_tensors
        return grad_outputs[0].index_select(0, packed_L), None, None
