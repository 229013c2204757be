"""Golden values of the loss, derived by hand: every preset, and every knob once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rl.loss import policy_loss
from rl.metrics import summarize
from rl.objectives import Objective, OffPolicy
from tests.rl.loss_data import DAPO, DR_GRPO, GRPO, make_objective, preset

# --- clip ---------------------------------------------------------------------------------------------------------
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


def evaluate(
    objective: Objective,
    log_ratios: list[list[float]],
    advantages: list[list[float]],
    *,
    ids: list[list[int]] | None = None,
    mask: list[list[int]] | None = None,
    old: float = 0.0,
    rollout: list[list[float]] | None = None,
    ref: list[list[float]] | None = None,
    entropy: list[list[float]] | None = None,
) -> tuple[float, Tensor, dict[str, float]]:
    """Loss, gradient by logprob, metrics; old logprobs are `old` everywhere."""

    def tensor(rows: list[list[float]] | None) -> Tensor | None:
        return None if rows is None else torch.tensor(rows, dtype=torch.float64)

    logprobs = (torch.tensor(log_ratios, dtype=torch.float64) + old).requires_grad_()
    loss, metrics = policy_loss(
        logprobs,
        torch.full_like(logprobs, old).detach(),
        torch.tensor(advantages, dtype=torch.float64),
        torch.full(logprobs.shape, -1) if ids is None else torch.tensor(ids),
        torch.ones(logprobs.shape) if mask is None else torch.tensor(mask),
        objective=objective,
        rollout_logprobs_BT=tensor(rollout),
        ref_logprobs_BT=tensor(ref),
        entropy_BT=tensor(entropy),
    )
    loss.backward()
    assert logprobs.grad is not None
    return loss.item(), logprobs.grad, summarize(metrics)


def close(actual: Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


LN2 = math.log(2)


def test_dual_clip_bounds_what_a_bad_answer_costs() -> None:
    # ratio 8 at A = -1: the clip leaves - min(-8, -1.28) = 8, the dual clip 3, without a gradient
    assert evaluate(DAPO, [[3 * LN2]], [[-1.0]])[0] == pytest.approx(8)
    loss, grad, row = evaluate(replace(DAPO, dual_clip=3.0), [[3 * LN2, LN2]], [[-1.0, -1.0]])
    assert loss == pytest.approx((3 + 2) / 2)
    close(grad, [[0.0, 1.0]])
    assert row["rl/clip_fraction"] == 0.5


# --- the other surrogates -----------------------------------------------------------------------------------------


def test_cispo_keeps_every_gradient_under_a_cut_weight() -> None:
    # logprobs ln 8 and -ln 2 of old 0: ratios 8 and 1/2, weights 5 and 1/2. -(5 ln 8 + (1/2)(-ln 2)) / 2 for A = 1
    loss, grad, row = evaluate(preset("cispo"), [[3 * LN2, -LN2]], [[1.0, 1.0]])
    assert loss == pytest.approx(-(15 * LN2 - LN2 / 2) / 2)
    close(grad, [[-2.5, -0.25]])
    assert row["rl/clip_fraction"] == 0.5


def test_sapo_is_a_gate() -> None:
    # ratio 2: gate (4/1) sigmoid(1) for A = 1, (4/1.05) sigmoid(1.05) for A = -1; slope 4 g (1 - g) r
    plus, minus = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1.05))
    loss, grad, _ = evaluate(preset("sapo"), [[LN2], [LN2]], [[1.0], [-1.0]])
    assert loss == pytest.approx((-4 * plus + 4 / 1.05 * minus) / 2)
    close(grad, [[-4 * plus * (1 - plus)], [4 * minus * (1 - minus)]])


def test_gmpo_is_a_geometric_mean_of_one_sided_clips() -> None:
    # A = 1: log-ratios 1, -1 -> 0.4, -1, mean -0.3. A = -1: -> 1, -0.4, mean 0.3
    for advantage, mean, kept in ((1.0, -0.3, 1), (-1.0, 0.3, 0)):
        loss, grad, row = evaluate(preset("gmpo"), [[1.0, -1.0]], [[advantage, advantage]])
        assert loss == pytest.approx(-advantage * math.exp(mean))
        slopes = [0.0, 0.0]
        slopes[kept] = -advantage * math.exp(mean) / 2
        close(grad, [slopes])
        assert row["rl/clip_fraction"] == 0.5


def test_rloo_is_reinforce() -> None:
    # 2 answers, divisor 4 tokens each: -(1 * (-2 - 1) + (-1) * (-3)) / 8
    loss, grad, row = evaluate(
        preset("rloo"), [[-2.0, -1.0], [-3.0, 0.0]], [[1.0, 1.0], [-1.0, 0.0]], mask=[[1, 1], [1, 0]]
    )
    assert loss == pytest.approx(0.0)
    close(grad, [[-1 / 8, -1 / 8], [1 / 8, 0.0]])
    assert row["rl/clip_fraction"] == 0


@pytest.mark.parametrize("kind", ["reinforce_pp", "reinforce_pp_baseline"])
def test_reinforce_pp_is_a_token_mean_of_clips(kind: str) -> None:
    # ratios 2 and 1 for A = 1 and 3: (-1.2 - 3) / 2
    loss, grad, _ = evaluate(preset(kind), [[LN2, 0.0]], [[1.0, 3.0]])
    assert loss == pytest.approx(-2.1)
    close(grad, [[0.0, -1.5]])


# --- ratios of segments and answers -------------------------------------------------------------------------------


def test_gspo_and_its_token_form_differ_only_where_advantages_do() -> None:
    # log-ratios 2e-4 and 0: s = e^1e-4, inside 3e-4/4e-4. A = 1 and 3; sequence mean
    s = math.exp(1e-4)
    for kind, slopes in (("gspo", [-s, -s]), ("gspo_token", [-s / 2, -3 * s / 2])):
        loss, grad, row = evaluate(preset(kind), [[2e-4, 0.0]], [[1.0, 3.0]])
        assert loss == pytest.approx(-2 * s)
        close(grad, [slopes])
        assert row["rl/clip_fraction"] == 0
    # log-ratios 1e-3 and 0: s = e^5e-4 is past 1 + 4e-4
    loss, grad, row = evaluate(preset("gspo"), [[1e-3, 0.0]], [[1.0, 1.0]])
    assert loss == pytest.approx(-1.0004)
    assert not grad.any()
    assert row["rl/clip_fraction"] == 1


def test_f_grpo_has_a_ratio_an_advantage_and_a_mean_per_segment() -> None:
    # slate of 3 tokens, ratio e^2e-4, A = 2; rank of 1 token, ratio 1, A = -1, in the first answer only; lambda 0.5
    # slate: (-2 e^2e-4 - 2) / 2 answers; rank: 1 / 1 answer
    loss, grad, _ = evaluate(
        preset("f_grpo", segment_weights=(1.0, 0.5)),
        [[6e-4, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
        [[2.0, 2.0, 2.0, -1.0], [2.0, 2.0, 2.0, 0.0]],
        ids=[[0, 0, 0, 1], [0, 0, 0, -1]],
        mask=[[1, 1, 1, 1], [1, 1, 1, 0]],
    )
    s = math.exp(2e-4)
    assert loss == pytest.approx(-s - 1 + 0.5)
    close(grad, [[-s / 3, -s / 3, -s / 3, 0.5], [-1 / 3, -1 / 3, -1 / 3, 0.0]])


def test_rank_grpo_is_a_mean_over_items() -> None:
    # items: (ln 2, 0 -> sqrt 2, A 1 -> -1.08), (0 -> 1, A 2 -> -2), and in the other answer (0, A -3 -> 3)
    loss, grad, _ = evaluate(
        preset("rank_grpo"),
        [[LN2, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[1.0, 1.0, 2.0], [-3.0, 0.0, 0.0]],
        ids=[[0, 0, 1], [0, -1, -1]],
        mask=[[1, 1, 1], [1, 0, 0]],
    )
    assert loss == pytest.approx((-1.08 - 2 + 3) / 3)
    close(grad, [[0.0, 0.0, -2 / 3], [1.0, 0.0, 0.0]])


# --- divergence and entropy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "value", "slope"),
    [("k1", LN2, 1.0), ("k2", LN2**2 / 2, LN2), ("k3", 0.5 - 1 + LN2, 0.5)],
)
def test_divergence_by_hand(estimator: str, value: float, slope: float) -> None:
    # The policy is twice as sure as the reference: d = ln 2; A = 0 leaves the divergence alone.
    objective = replace(DAPO, kl_coef=0.5, kl_estimator=estimator)  # pyright: ignore[reportArgumentType]
    loss, grad, row = evaluate(objective, [[0.0]], [[0.0]], ref=[[-LN2]])
    assert loss == pytest.approx(0.5 * value)
    close(grad, [[0.5 * slope]])
    assert row["rl/kl"] == pytest.approx(value)


def test_a_divergence_in_the_reward_is_not_in_the_loss() -> None:
    loss, grad, row = evaluate(replace(DAPO, kl_coef=0.5, kl_in="reward"), [[0.0]], [[1.0]], ref=[[-LN2]])
    assert loss == -1
    close(grad, [[-1.0]])
    assert row["rl/kl"] == pytest.approx(0.5 - 1 + LN2)


def test_the_entropy_bonus_has_the_losss_own_means() -> None:
    # GRPO: answers of entropies (1, 3) and (4): mean of 2 and 4
    loss, _, _ = evaluate(
        replace(GRPO, entropy_coef=0.1),
        [[0.0, 0.0], [0.0, 0.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        mask=[[1, 1], [1, 0]],
        entropy=[[1.0, 3.0], [4.0, 9.0]],
    )
    assert loss == pytest.approx(-0.3)


# --- the engine's mismatch ----------------------------------------------------------------------------------------
#
# Old logprobs 0, the engine's -ln 4 and ln 2: weights w = 4 and 1/2, their product 2, their geometric mean sqrt 2.
# On policy, A = 1: each token's loss is - w, the mean of two.

OLD_OVER_ROLLOUT = [[-2 * LN2, LN2]]


@pytest.mark.parametrize(
    ("knobs", "weights"),
    [
        (OffPolicy("token", high=2.0), (2, 0.5)),
        (OffPolicy("token", high=9.0), (4, 0.5)),
        (OffPolicy("token", mask_outside=True, low=0.5, high=2.0), (0, 0.5)),
        (OffPolicy("token", mask_outside=True, low=0.6, high=9.0), (4, 0)),
        (OffPolicy("sequence", high=9.0), (2, 2)),
        (OffPolicy("sequence", high=1.5), (1.5, 1.5)),
        (OffPolicy("sequence", mask_outside=True, low=0.5, high=1.9), (0, 0)),
        (OffPolicy(geometric_band=(0.5, 1.5)), (1, 1)),
        (OffPolicy(geometric_band=(0.5, 1.4)), (0, 0)),
        (OffPolicy("token", high=2.0, geometric_band=(0.5, 1.5)), (2, 0.5)),
    ],
)
def test_weights_by_hand(knobs: OffPolicy, weights: tuple[float, float]) -> None:
    objective = replace(DAPO, off_policy=knobs)
    loss, grad, row = evaluate(objective, [[0.0, 0.0]], [[1.0, 1.0]], rollout=OLD_OVER_ROLLOUT)
    assert loss == pytest.approx(-sum(weights) / 2)
    close(grad, [[-weights[0] / 2, -weights[1] / 2]])
    assert row["rl/off_policy_weight"] == pytest.approx(sum(weights) / 2)
    assert row["rl/off_policy_masked_fraction"] == sum(weight == 0 for weight in weights) / 2
    # raw, whatever is cut: mean and largest of 4 and 1/2, (4.5)^2 / (2 * 16.25), d - 1 - ln of each
    assert row["sync/mismatch_ratio"] == pytest.approx(2.25)
    assert row["sync/mismatch_ratio_max"] == pytest.approx(4)
    assert row["sync/mismatch_ess_fraction"] == pytest.approx(4.5**2 / (2 * 16.25))
    assert row["sync/mismatch_k3"] == pytest.approx((4 - 1 - 2 * LN2 + 0.5 - 1 + LN2) / 2)
    assert row["sync/logprob_gap"] == pytest.approx(1.5 * LN2)


def test_weights_leave_divergence_and_entropy_alone() -> None:
    objective = replace(
        DAPO, kl_coef=0.5, kl_estimator="k2", entropy_coef=0.1, off_policy=OffPolicy(geometric_band=(0.9, 1.1))
    )
    loss, grad, _ = evaluate(objective, [[0.0]], [[1.0]], rollout=[[-2 * LN2]], ref=[[-LN2]], entropy=[[3.0]])
    assert loss == pytest.approx(0.5 * LN2**2 / 2 - 0.3)
    close(grad, [[0.5 * LN2]])


def test_bypass_takes_the_engines_logprobs_for_the_old_ones() -> None:
    # learner 0 now and before, engine -ln 2 and -ln 1.1: ratios 2, cut at 1.28, and 1.1
    objective = replace(DAPO, bypass=True)
    loss, grad, row = evaluate(objective, [[0.0, 0.0]], [[1.0, 1.0]], rollout=[[-LN2, -math.log(1.1)]])
    assert loss == pytest.approx(-(1.28 + 1.1) / 2)
    close(grad, [[0.0, -0.55]])
    assert row["sync/logprob_gap"] == pytest.approx((LN2 + math.log(1.1)) / 2)


def test_weights_turn_reinforce_on_stale_rollouts_into_the_policy_gradient() -> None:
    # One token out of three, sampled with q = (1/2, 1/4, 1/4) by weights that the policy pi = (1/4, 1/4, 1/2) has left.
    # sum over y of q(y) w(y) A(y) grad log pi(y) is the gradient of sum over y of pi(y) A(y) where no weight is cut:
    # pi(y) (A(y) - mean) with mean = sum of pi A = 1/2 and A = (4, 0, -1).
    logits = torch.log(torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)).requires_grad_()
    behaviour = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    advantages = torch.tensor([4.0, 0.0, -1.0], dtype=torch.float64)

    def expected_gradient(knobs: OffPolicy) -> Tensor:
        loss, _ = policy_loss(
            torch.log_softmax(logits, 0)[:, None],
            None,
            (behaviour * advantages)[:, None],  # three answers, each as often as it comes
            torch.full((3, 1), -1),
            torch.ones(3, 1),
            objective=replace(preset("rloo", constant_tokens=1), off_policy=knobs),
            rollout_logprobs_BT=torch.log(behaviour)[:, None],
        )
        return -3 * torch.autograd.grad(loss, logits)[0]  # the constant divides by the number of answers

    by_hand = torch.tensor([0.25 * 3.5, 0.25 * -0.5, 0.5 * -1.5], dtype=torch.float64)
    torch.testing.assert_close(expected_gradient(OffPolicy("token", high=2.0)), by_hand)
    assert (expected_gradient(OffPolicy()) - by_hand).abs().max() > 0.5  # what would go unnoticed
    # Weights 1/2, 1, 2 cut at 1: the third answer counts q = 1/4 instead of pi = 1/2; mean = 1/4 x 4 - 1/4 = 3/4.
    cut = torch.tensor([0.25 * 4 - 0.25 * 0.75, -0.25 * 0.75, -0.25 - 0.5 * 0.75], dtype=torch.float64)
    torch.testing.assert_close(expected_gradient(OffPolicy("token", high=1.0)), cut)
