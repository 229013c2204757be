from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rl.batching import build_micro_batches
from rl.metrics import merge, summarize
from rl.objectives import compute_normalizers
from rl.sft import cross_entropy, heldout_loss, make_groups, sft_objective
from rollouts.dialogue import Dialogue


def make_dialogue(prompt: list[int], answer: list[int], mask: list[bool] | None = None) -> Dialogue:
    return Dialogue(
        np.array(prompt, dtype=np.int32),
        np.array(answer, dtype=np.int32),
        np.array([True] * len(answer) if mask is None else mask),
    )


ROWS = [
    make_dialogue([1, 2], [3, 4]),
    make_dialogue([5], [6, 7, 8, 9], [True, False, False, True]),
    make_dialogue([1, 2], [3]),
]


def test_rows_with_one_prompt_share_it() -> None:
    groups = make_groups(ROWS)
    assert [(group.group_index, group.prompt_token_ids.tolist()) for group in groups] == [(0, [1, 2]), (1, [5])]
    assert [rollout.token_ids.tolist() for rollout in groups[0].rollouts] == [[3, 4], [3]]
    (batch,) = build_micro_batches(groups, max_tokens=99, share_prompt=True)
    assert batch.num_tokens == 2 + 3 + 1 + 4  # the shared prompt once
    assert int(batch.mask_BT.sum()) == 5


def test_the_loss_by_hand_and_however_the_batch_is_cut() -> None:
    groups = make_groups(ROWS)
    objective = sft_objective()
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    norms = compute_normalizers(
        [rollout.segment_ids for rollout in rollouts], [r.loss_mask for r in rollouts], objective=objective
    )
    assert norms.tolist() == [5.0]
    for budget in (4, 6, 99):
        parts, gradient = [], torch.zeros(10)
        for batch in build_micro_batches(groups, max_tokens=budget, share_prompt=False):
            # The logprob of a token is -token/10, so the mean over 3, 4, 3, 6 and 9 is -0.5.
            scale = torch.zeros(10, requires_grad=True)
            tokens_BT = torch.zeros(batch.mask_BT.shape).flatten().index_copy(0, batch.slots_N, batch.labels_N / -10)
            spread = torch.zeros(batch.mask_BT.numel()).index_put((batch.slots_N,), scale[batch.labels_N])
            logprobs_BT = (tokens_BT + spread).view(batch.mask_BT.shape) + torch.where(batch.mask_BT, 0.0, torch.inf)
            loss, metrics = cross_entropy(logprobs_BT, batch.mask_BT, norms)
            loss.backward()
            assert scale.grad is not None
            gradient += scale.grad
            parts.append(metrics)
        row = summarize(merge(parts))
        assert row["rl/loss"] == pytest.approx(0.5)
        assert row["rl/num_tokens"] == 5
        assert gradient.tolist() == pytest.approx([0, 0, 0, -0.4, -0.2, 0, -0.2, 0, 0, -0.2])


def test_heldout_loss_is_the_mean_over_answer_tokens() -> None:
    groups = make_groups(ROWS)
    logprobs = [np.array(row, dtype=np.float32) for row in ([-1, -2], [-3], [-4, 0, 0, -5])]
    found = heldout_loss(groups, logprobs)
    assert (found.loss, found.num_tokens) == (3.0, 5)
    assert found.perplexity == pytest.approx(math.e**3)
    assert heldout_loss(groups, [row * 1000 for row in logprobs]).perplexity == math.inf


def test_the_objective_needs_no_reference_and_means_over_tokens() -> None:
    objective = sft_objective()
    assert (objective.kind, objective.aggregation, objective.kl_coef) == ("sft", "token", 0.0)
