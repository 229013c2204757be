"""The policy loss: golden values per preset, a per-token oracle, and what no split, order or padding may change."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rl.loss import policy_loss
from rl.metrics import Metric, merge, summarize
from rl.objective_config import Aggregation, RatioLevel
from rl.objectives import Objective, compute_normalizers
from rl.ratio import MAX_LOG_RATIO
from tests.rl.oracles import slow_policy_loss

LEVELS: tuple[RatioLevel, ...] = ("token", "segment", "sequence")
AGGREGATIONS: tuple[Aggregation, ...] = ("token", "sequence", "constant")
COMBINATIONS = list(itertools.product(LEVELS, AGGREGATIONS, (0.0, 0.1), (False, True)))


def make_objective(level: RatioLevel = "token", aggregation: Aggregation = "token", kl_coef: float = 0.0) -> Objective:
    constant_tokens = 5 if aggregation == "constant" else None
    return Objective("test", "mean", level, 0.2, 0.28, aggregation, constant_tokens, kl_coef)


GRPO = Objective("grpo", "mean_std", "token", 0.2, 0.2, "sequence", None, 0.0)
DR_GRPO = Objective("dr_grpo", "mean", "token", 0.2, 0.2, "constant", 4, 0.0)
DAPO = Objective("dapo", "mean", "token", 0.2, 0.28, "token", None, 0.0)


@dataclass(frozen=True)
class Batch:
    """Rollouts in rows, in any dtype; `mask` also has holes, as after a tool's turn."""

    logprobs: Tensor
    old: Tensor
    ref: Tensor
    rollout: Tensor
    advantages: Tensor
    ids: Tensor
    mask: Tensor

    def take(self, rows: list[int]) -> Batch:
        return Batch(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def loss(self, objective: Objective, normalizers: np.ndarray | None = None) -> tuple[Tensor, dict[str, Metric]]:
        return policy_loss(
            self.logprobs,
            self.old,
            self.advantages,
            self.ids,
            self.mask,
            objective=objective,
            rollout_logprobs_BT=self.rollout,
            ref_logprobs_BT=self.ref if objective.kl_coef > 0 else None,
            normalizers_S=normalizers,
        )

    def loss_and_grad(self, objective: Objective) -> tuple[Tensor, Tensor]:
        loss, _ = self.loss(objective)
        return loss.detach(), torch.autograd.grad(loss, self.logprobs)[0]

    def normalizers(self, objective: Objective) -> np.ndarray:
        return compute_normalizers(self.ids.numpy(), self.mask.numpy(), objective=objective)


def make_batch(*, segments: bool, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 0.4) -> Batch:
    """6 rollouts of up to 9 tokens; the last one has no loss token."""
    rng = np.random.default_rng(seed)
    shape = (6, 9)
    old = -rng.exponential(size=shape)
    ids = np.full(shape, -1)
    mask = np.zeros(shape, dtype=bool)
    advantages = np.zeros(shape)
    for b, length in enumerate([9, 4, 7, 1, 8, 0]):
        mask[b, :length] = rng.random(length) < 0.8
        mask[b, : min(length, 1)] = True
        if segments:  # preamble, slate, rank; the fourth rollout has a preamble only
            ids[b] = np.repeat([-1, 0, 1], 3)
        advantages[b] = rng.normal(size=3)[ids[b] + 1]

    def tensor(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=dtype)

    return Batch(
        logprobs=tensor(old + spread * rng.normal(size=shape)).requires_grad_(),
        old=tensor(old),
        ref=tensor(old + 0.3 * rng.normal(size=shape)),
        rollout=tensor(old + 0.01 * rng.normal(size=shape)),
        advantages=tensor(advantages),
        ids=torch.tensor(ids),
        mask=torch.tensor(mask),
    )


# --- golden numbers -----------------------------------------------------------------------------------------------
#
# Two rollouts, ratios [1.5, 1] with advantage 1 and [0.5] with advantage -1 (then padding).
# Clip 0.2/0.2: -min(1.5, 1.2) = -1.2, -1, -min(-0.5, -0.8) = 0.8. Clip 0.2/0.28: -1.28, -1, 0.8.
# Only the second token keeps its gradient: -ratio * advantage = -1, times its weight.


@pytest.mark.parametrize(
    ("objective", "expected", "slope"),
    [
        (GRPO, ((-1.2 - 1) / 2 + 0.8) / 2, -1 / 4),
        (DR_GRPO, (-1.2 - 1 + 0.8) / (4 * 2), -1 / 8),
        (DAPO, (-1.28 - 1 + 0.8) / 3, -1 / 3),
    ],
    ids=lambda value: value.kind if isinstance(value, Objective) else "",
)
def test_golden_values_of_the_presets(objective: Objective, expected: float, slope: float) -> None:
    logprobs = torch.tensor([[math.log(1.5), 0.0], [math.log(0.5), 9.0]], requires_grad=True)
    loss, metrics = policy_loss(
        logprobs,
        torch.zeros(2, 2),
        torch.tensor([[1.0, 1.0], [-1.0, 5.0]]),
        torch.full((2, 2), -1),
        torch.tensor([[1, 1], [1, 0]]),
        objective=objective,
    )
    loss.backward()
    assert loss.item() == pytest.approx(expected)
    torch.testing.assert_close(logprobs.grad, torch.tensor([[0.0, slope], [0.0, 0.0]]))
    row = summarize(metrics)
    assert row["rl/loss"] == row["rl/policy_loss"] == pytest.approx(expected)
    assert row["rl/clip_fraction"] == pytest.approx(2 / 3)
    assert row["rl/ratio"] == pytest.approx((1.5 + 1 + 0.5) / 3)
    assert row["rl/ratio_max"] == pytest.approx(1.5)
    assert row["rl/num_tokens"] == 3


def test_golden_values_of_kl_and_gap() -> None:
    # ref is twice and once as sure: d = ln 2 and 0, k3 = 2 - ln 2 - 1 and 0; the engine is off by 0.1 and -0.3
    loss, metrics = policy_loss(
        torch.tensor([[-2.0, -1.0]], dtype=torch.float64),
        None,
        torch.tensor([[0.5, 0.5]]),
        torch.full((1, 2), -1),
        torch.ones(1, 2),
        objective=replace(DAPO, kl_coef=0.2),
        ref_logprobs_BT=torch.tensor([[-2.0 + math.log(2), -1.0]], dtype=torch.float64),
        rollout_logprobs_BT=torch.tensor([[-2.1, -0.7]], dtype=torch.float64),
        entropy_BT=torch.tensor([[1.0, 3.0]]),
    )
    kl = (1 - math.log(2)) / 2
    assert loss.item() == pytest.approx(-0.5 + 0.2 * kl)
    row = summarize(metrics)
    assert row["rl/policy_loss"] == pytest.approx(-0.5)
    assert row["rl/kl"] == pytest.approx(kl)
    assert row["sync/logprob_gap"] == pytest.approx(0.2)
    assert row["sync/logprob_gap_max"] == pytest.approx(0.3)
    assert row["sync/mismatch_k3"] == pytest.approx((math.exp(0.1) - 0.1 - 1 + math.exp(-0.3) + 0.3 - 1) / 2)
    assert row["rl/entropy"] == pytest.approx(2.0)


def test_golden_value_of_the_sequence_level() -> None:
    # log-ratios ln 2 and 0: the sequence's ratio is sqrt(2), cut at 1.28 for A = 1 and kept for A = -1
    for advantage, expected, slope in [(1.0, -1.28, 0.0), (-1.0, math.sqrt(2), math.sqrt(2) / 2)]:
        logprobs = torch.tensor([[math.log(2), 0.0]], requires_grad=True)
        loss, _ = policy_loss(
            logprobs,
            torch.zeros(1, 2),
            torch.full((1, 2), advantage),
            torch.full((1, 2), -1),
            torch.ones(1, 2),
            objective=make_objective("sequence", "sequence"),
        )
        loss.backward()
        assert loss.item() == pytest.approx(expected)
        torch.testing.assert_close(logprobs.grad, torch.full((1, 2), slope))


# --- the oracle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "aggregation", "kl_coef", "segments"), COMBINATIONS)
def test_equals_the_oracle(level: RatioLevel, aggregation: Aggregation, kl_coef: float, segments: bool) -> None:
    objective = make_objective(level, aggregation, kl_coef)
    for seed in range(3):
        batch = make_batch(segments=segments, seed=seed)
        expected = slow_policy_loss(
            batch.logprobs.tolist(),
            batch.old.tolist(),
            batch.advantages.tolist(),
            batch.ids.tolist(),
            batch.mask.tolist(),
            objective,
            batch.ref.tolist() if kl_coef > 0 else None,
        )
        loss, metrics = batch.loss(objective)
        (grad,) = torch.autograd.grad(loss, batch.logprobs)
        assert loss.item() == pytest.approx(expected.loss, abs=1e-12)
        np.testing.assert_allclose(grad.numpy(), expected.grad, atol=1e-12)
        ratios = [ratio for row in expected.ratios for ratio in row if ratio is not None]
        row = summarize(metrics)
        assert row["rl/clip_fraction"] == pytest.approx(expected.clip_fraction)
        assert row["rl/ratio"] == pytest.approx(np.mean(ratios))
        assert row["rl/ratio_max"] == pytest.approx(max(ratios))


def test_the_oracle_is_asked_about_clipped_and_unclipped_tokens() -> None:
    for level in LEVELS:
        fractions = [
            summarize(make_batch(segments=True, seed=seed).loss(make_objective(level))[1])["rl/clip_fraction"]
            for seed in range(3)
        ]
        assert 0 < max(fractions) < 1


@pytest.mark.parametrize(("level", "aggregation", "kl_coef", "segments"), COMBINATIONS)
def test_numeric_gradients(level: RatioLevel, aggregation: Aggregation, kl_coef: float, segments: bool) -> None:
    """The token form equals the true gradient while tokens that share a ratio share advantage and weight."""
    objective = make_objective(level, aggregation, kl_coef)
    batch = make_batch(segments=segments and level != "sequence", spread=0.03)  # far from the kinks at 0.8 and 1.28
    assert summarize(batch.loss(objective)[1])["rl/clip_fraction"] == 0

    def value(logprobs: Tensor) -> Tensor:
        return replace(batch, logprobs=logprobs).loss(objective)[0]

    assert torch.autograd.gradcheck(value, (batch.logprobs,), eps=1e-6, atol=1e-8)


# --- what may not matter ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "aggregation", "kl_coef", "segments"), COMBINATIONS)
def test_splitting_the_batch_changes_nothing(
    level: RatioLevel, aggregation: Aggregation, kl_coef: float, segments: bool
) -> None:
    objective = make_objective(level, aggregation, kl_coef)
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
        assert summarize(merge(metrics for _, metrics in parts)) == pytest.approx(summarize(whole_metrics), rel=1e-5)


@pytest.mark.parametrize(("level", "aggregation"), list(itertools.product(LEVELS, AGGREGATIONS)))
def test_order_of_rollouts_and_padding_change_nothing(level: RatioLevel, aggregation: Aggregation) -> None:
    objective = make_objective(level, aggregation, kl_coef=0.1)
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
        advantages=pad(batch.advantages, nan),
        ids=pad(batch.ids, 77).long(),
        mask=torch.nn.functional.pad(batch.mask, (0, width), value=False),
    )


@pytest.mark.parametrize(("level", "aggregation"), list(itertools.product(LEVELS, AGGREGATIONS)))
@pytest.mark.parametrize("old_given", [False, True])
def test_on_policy_ratios_are_one(level: RatioLevel, aggregation: Aggregation, old_given: bool) -> None:
    batch = make_batch(segments=True, dtype=torch.float32)
    _, metrics = policy_loss(
        batch.logprobs,
        batch.logprobs.detach().clone() if old_given else None,
        batch.advantages,
        batch.ids,
        batch.mask,
        objective=make_objective(level, aggregation),
    )
    row = summarize(metrics)
    assert (row["rl/ratio"], row["rl/ratio_max"], row["rl/clip_fraction"]) == (1.0, 1.0, 0.0)


def test_on_policy_gradient_is_reinforce() -> None:
    batch = make_batch(segments=False)
    loss, _ = policy_loss(batch.logprobs, None, batch.advantages, batch.ids, batch.mask, objective=DAPO)
    (grad,) = torch.autograd.grad(loss, batch.logprobs)
    torch.testing.assert_close(grad, -batch.advantages * batch.mask / batch.mask.sum())


@pytest.mark.parametrize(("level", "aggregation"), list(itertools.product(LEVELS, AGGREGATIONS)))
def test_no_advantage_no_policy_gradient(level: RatioLevel, aggregation: Aggregation) -> None:
    """A segment with advantage 0 learns nothing, whatever the others' advantages are."""
    batch = make_batch(segments=True)
    batch = replace(batch, advantages=torch.where(batch.ids == 1, 0.0, batch.advantages))
    _, grad = batch.loss_and_grad(make_objective(level, aggregation))
    assert not grad[batch.ids == 1].any()
    assert grad[(batch.ids == 0) & batch.mask].any()


def test_segments_with_equal_advantages_and_a_constant_divisor_are_dr_grpo() -> None:
    with_segments = make_batch(segments=True)
    advantages = with_segments.advantages[:, :1].expand(-1, 9)
    with_segments = replace(with_segments, advantages=advantages)
    without = replace(with_segments, ids=torch.full_like(with_segments.ids, -1))
    torch.testing.assert_close(with_segments.loss_and_grad(DR_GRPO), without.loss_and_grad(DR_GRPO), rtol=0, atol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_padding_beside_segments_only(aggregation: Aggregation) -> None:
    """No loss token is outside a segment, so the bucket that padding falls into has no normaliser."""
    ids, mask = torch.tensor([[0, 0, 1], [0, 1, -1]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    logprobs = torch.zeros(2, 3, requires_grad=True)
    loss, _ = policy_loss(logprobs, None, torch.ones(2, 3), ids, mask, objective=make_objective("token", aggregation))
    loss.backward()
    assert loss.item() == pytest.approx(-0.5 if aggregation == "constant" else -2)  # -5 tokens / (5 * 2 rollouts)
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


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["logprobs", "old", "advantages", "ref"])
def test_a_broken_number_at_a_loss_token_is_seen(level: RatioLevel, broken: float, where: str) -> None:
    batch = make_batch(segments=True)
    values = getattr(batch, where).detach().clone()
    values[0, 0] = broken
    batch = replace(batch, **{where: values})
    loss, _ = batch.loss(make_objective(level, kl_coef=0.1))
    assert not loss.isfinite()


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


def test_kl_without_a_reference_is_a_bug() -> None:
    batch = make_batch(segments=False)
    with pytest.raises(ValueError, match="ref_logprobs_BT"):
        policy_loss(batch.logprobs, None, batch.advantages, batch.ids, batch.mask, objective=replace(DAPO, kl_coef=0.1))


def test_a_micro_batch_of_padding_adds_nothing() -> None:
    """Ranks pad with empty micro-batches so that all of them run equally many backward passes."""
    batch = make_batch(segments=True)
    empty = _detached(batch, [5])
    loss, metrics = empty.loss(DAPO, batch.normalizers(DAPO))
    loss.backward()
    assert loss.item() == 0
    assert empty.logprobs.grad is not None
    assert not empty.logprobs.grad.any()
    assert summarize(metrics).keys() == {"rl/loss", "rl/policy_loss", "rl/num_tokens"}
    _, whole = batch.loss(DAPO)
    assert summarize(merge([whole, metrics])) == summarize(whole)


def test_bfloat16_logprobs_are_summed_in_float32() -> None:
    batch = make_batch(segments=False, dtype=torch.float32)
    loss, _ = policy_loss(
        batch.logprobs.bfloat16(), batch.old.bfloat16(), batch.advantages, batch.ids, batch.mask, objective=DAPO
    )
    assert loss.dtype == torch.float32
