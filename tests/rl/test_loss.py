"""The policy loss: a per-token oracle, numeric gradients, and what no split, order or padding may change.

Golden values by hand are in `test_loss_golden.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rl.loss import policy_loss
from rl.metrics import merge, summarize
from rl.objective_config import Aggregation
from rl.objectives import Objective
from rl.ratio import MAX_LOG_RATIO
from tests.rl.loss_data import (
    AGGREGATIONS,
    DAPO,
    DR_GRPO,
    LEVELS,
    SETTINGS,
    Batch,
    make_batch,
    make_objective,
    preset,
)
from tests.rl.loss_oracle import SlowLoss, slow_policy_loss

every_setting = pytest.mark.parametrize("name", SETTINGS)
with_and_without_segments = pytest.mark.parametrize("segments", [False, True])

ONE_ADVANTAGE_PER_ANSWER = ("gmpo",)
"""Settings for which segments with advantages of their own are refused."""


def has_true_gradient(objective: Objective, segments: bool) -> bool:
    """Token forms have it while tokens that share a ratio share advantage and weight; CISPO's weight has none."""
    if objective.surrogate == "cispo":
        return False
    return not (segments and objective.ratio_level == "sequence" and objective.ratio_form == "token")


def slow(batch: Batch, objective: Objective) -> SlowLoss:
    return slow_policy_loss(
        batch.logprobs.tolist(),
        batch.old.tolist(),
        batch.advantages.tolist(),
        batch.ids.tolist(),
        batch.mask.tolist(),
        objective,
        ref=batch.ref.tolist(),
        rollout=batch.rollout.tolist(),
        entropy=batch.entropy.tolist(),
    )


def grads(batch: Batch, objective: Objective) -> tuple[Tensor, Tensor]:
    loss, _ = batch.loss(objective)
    by_logprob, by_entropy = torch.autograd.grad(loss, (batch.logprobs, batch.entropy), allow_unused=True)
    return by_logprob, torch.zeros_like(by_logprob) if by_entropy is None else by_entropy


# --- the oracle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "segments"),
    [(n, s) for n in SETTINGS for s in (False, True) if not (s and n in ONE_ADVANTAGE_PER_ANSWER)],
)
def test_equals_the_oracle(name: str, segments: bool) -> None:
    objective = SETTINGS[name]
    for seed in range(3):
        batch = make_batch(segments=segments, seed=seed)
        expected = slow(batch, objective)
        loss, metrics = batch.loss(objective)
        by_logprob, by_entropy = grads(batch, objective)
        assert loss.item() == pytest.approx(expected.loss, abs=1e-12)
        np.testing.assert_allclose(by_logprob.numpy(), expected.grad, atol=1e-12)
        np.testing.assert_allclose(by_entropy.numpy(), expected.entropy_grad, atol=1e-12)
        row = summarize(metrics)
        assert row["rl/policy_loss"] == pytest.approx(expected.policy_loss, abs=1e-12)
        assert row["rl/clip_fraction"] == pytest.approx(expected.clip_fraction)
        assert row["rl/ratio"] == pytest.approx(np.mean(expected.ratios))
        assert row["rl/ratio_max"] == pytest.approx(max(expected.ratios))


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name].surrogate in ("clip", "cispo", "gmpo")])
def test_the_oracle_is_asked_about_clipped_and_unclipped_tokens(name: str) -> None:
    objective = replace(SETTINGS[name], clip_low=0.2, clip_high=0.2)
    batches = [make_batch(segments=True, seed=seed) for seed in range(3)]
    assert 0 < max(slow(batch, objective).clip_fraction for batch in batches) < 1


@pytest.mark.parametrize("name", [name for name in SETTINGS if SETTINGS[name].off_policy.is_active])
def test_the_oracle_is_asked_about_cut_and_whole_weights(name: str) -> None:
    rows = [summarize(make_batch(segments=False, seed=seed).loss(SETTINGS[name])[1]) for seed in range(3)]
    assert any(row["rl/off_policy_weight"] != pytest.approx(row["sync/mismatch_ratio"]) for row in rows)
    if "truncate" not in name:
        assert 0 < sum(row["rl/off_policy_masked_fraction"] for row in rows) < 3


@pytest.mark.parametrize(
    ("name", "segments"),
    [(n, s) for n, o in SETTINGS.items() for s in (False, True) if has_true_gradient(o, s)],
)
def test_numeric_gradients(name: str, segments: bool) -> None:
    objective = SETTINGS[name]
    batch = make_batch(segments=segments)

    def value(logprobs: Tensor, entropy: Tensor) -> Tensor:
        return replace(batch, logprobs=logprobs, entropy=entropy).loss(objective)[0]

    assert torch.autograd.gradcheck(value, (batch.logprobs, batch.entropy), eps=1e-6, atol=1e-8, fast_mode=True)


# --- what may not matter ------------------------------------------------------------------------------------------


@every_setting
@with_and_without_segments
def test_splitting_the_batch_changes_nothing(name: str, segments: bool) -> None:
    objective = SETTINGS[name]
    batch = make_batch(segments=segments, dtype=torch.float32)
    whole, whole_metrics = batch.loss(objective)
    (whole_grad,) = torch.autograd.grad(whole, batch.logprobs)
    normalizers = batch.normalizers(objective)
    for split in ([[0, 1, 2], [3, 4, 5]], [[5], [2], [0, 4], [1, 3]], [[b] for b in range(6)]):
        parts = [batch.take(rows).loss(objective, normalizers) for rows in split]
        loss = torch.stack([part for part, _ in parts]).sum()
        (grad,) = torch.autograd.grad(loss, batch.logprobs)
        torch.testing.assert_close(loss, whole, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(grad, whole_grad, rtol=1e-6, atol=1e-6)
        merged = summarize(merge(metrics for _, metrics in parts))
        assert merged == pytest.approx(summarize(whole_metrics), rel=1e-5, abs=1e-7)


@every_setting
def test_order_of_rollouts_and_padding_change_nothing(name: str) -> None:
    objective = SETTINGS[name]
    batch = make_batch(segments=True)
    loss, grad = batch.loss_and_grad(objective)

    order = [3, 5, 0, 2, 4, 1]
    permuted_loss, permuted_grad = _detached(batch, order).loss_and_grad(objective)
    torch.testing.assert_close(permuted_loss, loss)
    torch.testing.assert_close(permuted_grad, grad[order])

    wide = _padded(batch, 4)
    wide_loss, wide_grad = wide.loss_and_grad(objective)
    torch.testing.assert_close(wide_loss, loss)
    torch.testing.assert_close(wide_grad[:, :9], grad)
    assert not wide_grad[:, 9:].any()


def _detached(batch: Batch, rows: list[int]) -> Batch:
    taken = batch.take(rows)
    return replace(taken, logprobs=taken.logprobs.detach().requires_grad_())


def _padded(batch: Batch, width: int) -> Batch:
    """Padding holds what a careless caller leaves there: NaN, and ids of segments that do not exist."""

    def pad(values: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(values.detach(), (0, width), value=value)

    nan = math.nan
    return Batch(
        logprobs=pad(batch.logprobs, nan).requires_grad_(),
        old=pad(batch.old, nan),
        ref=pad(batch.ref, nan),
        rollout=pad(batch.rollout, nan),
        entropy=pad(batch.entropy, nan),
        advantages=pad(batch.advantages, nan),
        ids=pad(batch.ids, 77).long(),
        mask=torch.nn.functional.pad(batch.mask, (0, width), value=False),
    )


@every_setting
@pytest.mark.parametrize("old_given", [False, True])
def test_on_policy_ratios_are_one(name: str, old_given: bool) -> None:
    objective = replace(SETTINGS[name], bypass=False)
    batch = make_batch(segments=True, dtype=torch.float32)
    _, metrics = policy_loss(
        batch.logprobs,
        batch.logprobs.detach().clone() if old_given else None,
        batch.advantages,
        batch.ids,
        batch.mask,
        objective=objective,
        rollout_logprobs_BT=batch.rollout,
        ref_logprobs_BT=batch.ref,
        entropy_BT=batch.entropy,
    )
    row = summarize(metrics)
    assert (row["rl/ratio"], row["rl/ratio_max"], row["rl/clip_fraction"]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("surrogate", ["clip", "cispo", "sapo", "reinforce"])
def test_on_policy_gradient_is_reinforce(surrogate: str) -> None:
    """So is every surrogate's at ratio 1, where no clip and no gate acts."""
    batch = make_batch(segments=False)
    objective = replace(DAPO, surrogate=surrogate)  # pyright: ignore[reportArgumentType]
    loss, _ = policy_loss(batch.logprobs, None, batch.advantages, batch.ids, batch.mask, objective=objective)
    (grad,) = torch.autograd.grad(loss, batch.logprobs)
    torch.testing.assert_close(grad, -batch.advantages * batch.mask / batch.mask.sum())


# --- segments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, o in SETTINGS.items()
        if not o.all_rollouts_teach and (o.surrogate, o.ratio_level) != ("gmpo", "sequence")
    ],
)
def test_no_advantage_no_policy_gradient(name: str) -> None:
    """A segment with advantage 0 learns nothing, whatever the others' advantages are."""
    objective = SETTINGS[name]
    if objective.ratio_form == "mean" and objective.ratio_level == "sequence":
        objective = replace(objective, ratio_form="token")  # one mean through all tokens moves all of them
    objective = replace(objective, clip_low=1.0, clip_high=9.0)
    batch = make_batch(segments=True, spread=0.1, mismatch=0.0)
    batch = replace(batch, advantages=torch.where(batch.ids == 1, 0.0, batch.advantages))
    _, grad = batch.loss_and_grad(objective)
    assert not grad[batch.ids == 1].any()
    assert grad[(batch.ids == 0) & batch.mask].any()


def test_f_grpo_ranks_without_a_rank_advantage_get_no_gradient() -> None:
    batch = make_batch(segments=True, spread=1e-4)
    batch = replace(batch, advantages=torch.where(batch.ids == 1, 0.0, batch.advantages))
    for level in LEVELS:
        _, grad = batch.loss_and_grad(preset("f_grpo", ratio_level=level))
        assert not grad[batch.ids == 1].any()
        assert grad[(batch.ids == 0) & batch.mask].any()


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_f_grpo_with_equal_advantages_and_the_constant_divisor_is_grpo(kl_coef: float) -> None:
    """To the last bit: token ratios, lambda 1."""
    batch = make_batch(segments=True)
    batch = replace(batch, advantages=batch.advantages[:, :1].expand(-1, 9))
    plain = replace(batch, ids=torch.full_like(batch.ids, -1))
    f_grpo = preset(
        "f_grpo",
        ratio_level="token",
        aggregation="constant",
        constant_tokens=7,
        segment_weights=(1.0, 1.0),
        kl_coef=kl_coef,
    )
    grpo = preset("grpo", aggregation="constant", constant_tokens=7, kl_coef=kl_coef)
    torch.testing.assert_close(batch.loss_and_grad(f_grpo), plain.loss_and_grad(grpo), rtol=0, atol=0)


def test_segments_with_equal_advantages_and_a_constant_divisor_are_dr_grpo() -> None:
    with_segments = make_batch(segments=True)
    advantages = with_segments.advantages[:, :1].expand(-1, 9)
    with_segments = replace(with_segments, advantages=advantages)
    without = replace(with_segments, ids=torch.full_like(with_segments.ids, -1))
    torch.testing.assert_close(with_segments.loss_and_grad(DR_GRPO), without.loss_and_grad(DR_GRPO), rtol=0, atol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_whole_is_the_weighted_sum_of_its_segments(aggregation: Aggregation) -> None:
    """loss(1, lambda) = loss(1, 0) + lambda (loss(0, 1) - loss(0, 0)); lambda counts once, divergence included."""
    batch = make_batch(segments=True)

    def loss(*weights: float) -> float:
        objective = replace(make_objective("segment", aggregation, 0.1), segment_weights=weights)
        return batch.loss(objective)[0].item()

    assert loss(1.0, 0.3) == pytest.approx(loss(1.0, 0.0) + 0.3 * (loss(0.0, 1.0) - loss(0.0, 0.0)))
    assert loss() == loss(1.0) == loss(1.0, 1.0, 5.0)


def test_a_segment_of_weight_0_gets_no_gradient_and_no_nan() -> None:
    batch = make_batch(segments=True)
    _, grad = batch.loss_and_grad(SETTINGS["weight-0"])
    assert grad.isfinite().all()
    assert not grad[batch.ids == 1].any()


def test_metrics_tell_segments_apart() -> None:
    ids, mask = torch.tensor([[0, 0, 1]]), torch.ones(1, 3)
    logprobs = torch.tensor([[0.0, 0.0, math.log(2)]])
    _, metrics = policy_loss(
        logprobs, torch.zeros(1, 3), mask, ids, mask, objective=preset("f_grpo", ratio_level="token")
    )
    row = summarize(metrics)
    assert row["rl/segment_0_ratio"] == 1
    assert row["rl/segment_0_clip_fraction"] == 0
    assert row["rl/segment_1_ratio"] == pytest.approx(2)
    assert row["rl/segment_1_clip_fraction"] == 1


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_padding_beside_segments_only(aggregation: Aggregation) -> None:
    """No loss token is outside a segment, so the bucket that padding falls into has no normaliser."""
    ids, mask = torch.tensor([[0, 0, 1], [0, 1, -1]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    logprobs = torch.zeros(2, 3, requires_grad=True)
    loss, _ = policy_loss(logprobs, None, torch.ones(2, 3), ids, mask, objective=make_objective("token", aggregation))
    loss.backward()
    # two segments of -1 each; over all pairs of rollout and segment -1; -5 tokens / (5 * 2 rollouts)
    expected = {"token": -2, "sequence": -2, "segment": -1, "constant": -0.5}
    assert loss.item() == pytest.approx(expected[aggregation])
    assert logprobs.grad is not None
    assert logprobs.grad.isfinite().all()


def test_a_short_segment_weighs_as_much_as_a_long_one() -> None:
    """Own normalisers: 8 slate tokens and 1 rank token with advantage 1 give a loss of -1 each, on policy."""
    ids = torch.tensor([[0] * 8 + [1]])
    advantages = torch.ones(1, 9)
    for aggregation in ("token", "sequence"):
        loss, _ = policy_loss(
            torch.zeros(1, 9), None, advantages, ids, torch.ones(1, 9), objective=make_objective("token", aggregation)
        )
        assert loss.item() == pytest.approx(-2)


# --- broken numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dapo", "gspo", "gspo_token", "cispo", "sapo", "gmpo", "f_grpo", "rank_grpo", "rloo"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["logprobs", "old", "advantages", "ref"])
def test_a_broken_number_at_a_loss_token_is_seen(name: str, broken: float, where: str) -> None:
    batch = make_batch(segments=True)
    values = getattr(batch, where).detach().clone()
    values[0, 0] = broken
    batch = replace(batch, **{where: values})
    loss, _ = batch.loss(replace(SETTINGS[name], kl_coef=0.1, kl_in="loss"))
    reads_it = where != "old" or SETTINGS[name].surrogate != "reinforce"
    assert loss.isfinite() != reads_it


def test_a_broken_engine_logprob_is_seen_in_the_gap() -> None:
    batch = make_batch(segments=False)
    rollout = batch.rollout.clone()
    rollout[0, 0] = math.nan
    loss, metrics = replace(batch, rollout=rollout).loss(DAPO)
    assert loss.isfinite()
    row = summarize(metrics)
    assert math.isnan(row["sync/logprob_gap"])
    assert math.isnan(row["sync/logprob_gap_max"])


def test_far_ratios_stay_finite() -> None:
    logprobs = torch.tensor([[-1.0, -500.0]], requires_grad=True)
    loss, metrics = policy_loss(
        logprobs,
        torch.tensor([[-500.0, -1.0]]),
        torch.tensor([[-1.0, 1.0]]),
        torch.full((1, 2), -1),
        torch.ones(1, 2),
        objective=DAPO,
    )
    assert loss.item() == pytest.approx(math.exp(MAX_LOG_RATIO) / 2)
    assert summarize(metrics)["rl/ratio_max"] == pytest.approx(math.exp(MAX_LOG_RATIO))


def test_a_segment_missing_from_the_normalizers_is_no_silent_zero() -> None:
    batch = make_batch(segments=True)
    normalizers = batch.normalizers(DAPO)
    normalizers[1] = 0
    assert not batch.loss(DAPO, normalizers)[0].isfinite()


def test_a_broken_engine_logprob_breaks_a_loss_that_reads_it() -> None:
    batch = make_batch(segments=False)
    rollout = batch.rollout.clone()
    rollout[0, 0] = math.nan
    for name in ("bypass", "token-truncate", "sequence-mask", "geometric"):
        assert not replace(batch, rollout=rollout).loss(SETTINGS[name])[0].isfinite()


def test_kl_without_a_reference_is_a_bug() -> None:
    batch = make_batch(segments=False)
    with pytest.raises(ValueError, match="ref_logprobs_BT"):
        policy_loss(batch.logprobs, None, batch.advantages, batch.ids, batch.mask, objective=replace(DAPO, kl_coef=0.1))


def test_missing_inputs_are_bugs() -> None:
    batch = make_batch(segments=False)
    for name, missing in (("entropy", "entropy_BT"), ("bypass", "rollout_logprobs_BT"), ("token-mask", "rollout_")):
        with pytest.raises(ValueError, match=missing):
            policy_loss(batch.logprobs, None, batch.advantages, batch.ids, batch.mask, objective=SETTINGS[name])


def test_a_micro_batch_of_padding_adds_nothing() -> None:
    """Ranks pad with empty micro-batches so that all of them run equally many backward passes."""
    batch = make_batch(segments=True)
    empty = _detached(batch, [5])
    loss, metrics = empty.loss(DAPO, batch.normalizers(DAPO))
    loss.backward()
    assert loss.item() == 0
    assert empty.logprobs.grad is not None
    assert not empty.logprobs.grad.any()
    assert summarize(metrics).keys() == {"rl/loss", "rl/policy_loss", "rl/num_tokens"}  # no mean over nothing
    _, whole = batch.loss(DAPO)
    assert summarize(merge([whole, metrics])) == summarize(whole)


def test_bfloat16_logprobs_are_summed_in_float32() -> None:
    batch = make_batch(segments=False, dtype=torch.float32)
    loss, _ = policy_loss(
        batch.logprobs.bfloat16(), batch.old.bfloat16(), batch.advantages, batch.ids, batch.mask, objective=DAPO
    )
    assert loss.dtype == torch.float32
