"""DisCO: its loss by hand, and the two passes' gradient against the whole loss's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl.disco import disco_pass, group_loss
from rl.loss import policy_loss
from rl.objectives import Disco, compute_normalizers
from rl.types import TrainGroup, TrainRollout
from tests.rl.loss_data import preset

BINARY = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
"""Two right answers and a wrong one."""


def make_group(rng: np.random.Generator, index: int, lengths: Sequence[int], *, ties: bool = False) -> TrainGroup:
    rollouts = []
    for length in lengths:
        mask = np.ones(length, dtype=bool)
        mask[1:2] = False
        zeros = np.zeros(length, dtype=np.float32)
        rollouts.append(
            TrainRollout(np.zeros(length, dtype=np.int32), mask, zeros, np.full(length, -1, np.int32), zeros)
        )
    wins_GG = rng.random((len(lengths), len(lengths)))
    wins_GG = np.zeros_like(wins_GG) if ties else np.triu(wins_GG, 1) + np.tril(1 - wins_GG.T, -1)
    return TrainGroup(index, np.zeros(1, dtype=np.int32), tuple(rollouts), tuple(range(len(lengths))), wins_GG)


def whole_loss(groups: Sequence[TrainGroup], logprobs: Sequence[Tensor], old: Sequence[Tensor], knobs: Disco) -> Tensor:
    """The formulas of `rl/disco.py` in one differentiable piece."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    masks = [torch.from_numpy(rollout.loss_mask) for rollout in rollouts]
    if knobs.score == "log_l":
        scores = [row[mask].mean() for row, mask in zip(logprobs, masks, strict=True)]
    else:
        scores = [(row - before)[mask].exp().mean() for row, before, mask in zip(logprobs, old, masks, strict=True)]
    total, start = torch.zeros((), dtype=torch.float64), 0
    for group in groups:
        assert group.wins_GG is not None
        mine = scores[start : start + len(group.rollouts)]
        start += len(group.rollouts)
        all_wins = group.wins_GG.sum()
        for i, wins in enumerate(group.wins_GG):
            if wins.sum() > 0:
                mean = sum(win * ((mine[j] - mine[i]) / knobs.tau).exp() for j, win in enumerate(wins)) / wins.sum()
                total = total + wins.sum() / all_wins * knobs.tau * torch.as_tensor(mean).log() / len(groups)
    kl = torch.cat([(before - row)[mask] for row, before, mask in zip(logprobs, old, masks, strict=True)]).mean()
    return total + knobs.kl_penalty * (kl - knobs.kl_limit).clamp(min=0) ** 2


# --- by hand ------------------------------------------------------------------------------------------------------


def test_right_answers_are_pushed_over_wrong_ones() -> None:
    # scores 1 2 0, tau 1: mean over the right of log exp(0 - s) = -(1 + 2) / 2; each is pulled by 1/2
    loss, gradient_G = group_loss(np.array([1.0, 2.0, 0.0]), BINARY, tau=1.0)
    assert loss == pytest.approx(-1.5)
    np.testing.assert_allclose(gradient_G, [-0.5, -0.5, 1.0])


def test_the_hardest_wrong_answer_weighs_most() -> None:
    # one right answer of score 0 against ln 3 and 0: log((3 + 1) / 2) = ln 2, shares 3/4 and 1/4
    wins_GG = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    loss, gradient_G = group_loss(np.array([0.0, math.log(3), 0.0]), wins_GG, tau=1.0)
    assert loss == pytest.approx(math.log(2))
    np.testing.assert_allclose(gradient_G, [-1.0, 0.75, 0.25])


def test_a_large_tau_gives_plain_differences() -> None:
    scores_G = np.array([1.0, 2.5, -0.5])
    loss, gradient_G = group_loss(scores_G, BINARY, tau=1e7)
    assert loss == pytest.approx(-0.5 - (1 + 2.5) / 2, abs=1e-5)
    np.testing.assert_allclose(gradient_G, [-0.5, -0.5, 1.0], atol=1e-6)


def test_the_likelier_winner_is_pushed_the_more() -> None:
    # P(0 beats 1) = 0.9, level scores: D = 0, slopes -(0.9 - 0.1) and the opposite; a coin flip teaches nothing here
    for p, slope in ((0.9, -0.8), (0.5, 0.0)):
        loss, gradient_G = group_loss(np.zeros(2), np.array([[0.0, p], [1 - p, 0.0]]), tau=1.0)
        assert loss == pytest.approx(0.0)
        np.testing.assert_allclose(gradient_G, [slope, -slope], atol=1e-12)


def test_a_group_where_nobody_wins_teaches_nothing() -> None:
    loss, gradient_G = group_loss(np.array([1.0, 5.0]), np.zeros((2, 2)), tau=1.0)
    assert loss == 0
    assert not gradient_G.any()


# --- properties ---------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.integers(0, 99), st.sampled_from([0.5, 10.0]))
def test_slopes_sum_to_zero_and_follow_the_order(scores: list[float], seed: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    wins_GG = rng.random((len(scores), len(scores))) * (1 - np.eye(len(scores)))
    loss, gradient_G = group_loss(np.array(scores), wins_GG, tau)
    assert gradient_G.sum() == pytest.approx(0, abs=1e-12)
    order = rng.permutation(len(scores))
    permuted, permuted_G = group_loss(np.array(scores)[order], wins_GG[np.ix_(order, order)], tau)
    assert permuted == pytest.approx(loss)
    np.testing.assert_allclose(permuted_G, gradient_G[order], atol=1e-12)


@pytest.mark.parametrize("score", ["log_l", "l_ratio"])
@pytest.mark.parametrize(("kl_limit", "drift"), [(1e-4, 0.05), (1e-4, -0.05), (0.0, 0.0)])
def test_two_passes_have_the_gradient_of_the_whole_loss(score: str, kl_limit: float, drift: float) -> None:
    """In micro-batches of one answer each, which see nothing of each other."""
    rng = np.random.default_rng(3)
    groups = [make_group(rng, 0, [5, 2, 4]), make_group(rng, 1, [3, 1], ties=True), make_group(rng, 2, [4, 6, 3, 2])]
    objective = preset("disco", disco={"score": score, "kl_limit": kl_limit, "kl_penalty": 30.0})
    assert objective.disco is not None
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    logprobs = [torch.tensor(-rng.exponential(size=len(r.token_ids))).requires_grad_() for r in rollouts]
    old = [(row + drift + 0.02 * torch.tensor(rng.normal(size=len(row)))).detach() for row in logprobs]

    expected = whole_loss(groups, logprobs, old, objective.disco)
    expected_grads = torch.autograd.grad(expected, logprobs)
    rows = [row.detach().numpy() for row in logprobs]
    found = disco_pass(groups, rows, [row.numpy() for row in old], knobs=objective.disco)
    assert found.loss == pytest.approx(expected.item())
    assert found.num_groups_without_pairs == 1

    shaped = [rollout for group in found.groups for rollout in group.rollouts]
    normalizers = compute_normalizers(
        [r.segment_ids for r in shaped], [r.loss_mask for r in shaped], objective=objective
    )
    for row, before, rollout, grad in zip(logprobs, old, shaped, expected_grads, strict=True):
        loss, _ = policy_loss(
            row[None],
            before[None],
            torch.tensor(rollout.advantages)[None],
            torch.tensor(rollout.segment_ids)[None],
            torch.tensor(rollout.loss_mask)[None],
            objective=objective,
            normalizers_S=normalizers,
        )
        torch.testing.assert_close(torch.autograd.grad(loss, row)[0], grad, rtol=1e-5, atol=1e-7)


def test_without_old_logprobs_nothing_has_moved() -> None:
    rng = np.random.default_rng(0)
    group = make_group(rng, 0, [3, 4])
    rows = [rng.normal(size=3), rng.normal(size=4)]
    knobs = Disco("l_ratio", 1.0, 0.0, 1e3)
    found = disco_pass([group], rows, None, knobs=knobs)
    assert found.kl == 0
    assert found.loss == pytest.approx(0)


def test_a_group_that_does_not_know_who_beats_whom_is_a_bug() -> None:
    group = replace(make_group(np.random.default_rng(0), 0, [2, 2]), wins_GG=None)
    with pytest.raises(ValueError, match="who beats whom"):
        disco_pass([group], [np.zeros(2)] * 2, None, knobs=Disco("log_l", 10.0, 0.0, 0.0))
