"""The policy loss: one function, every objective is a setting of it.

Shapes: B rollouts (rows), T answer tokens padded to the longest, S segment buckets (bucket 0 = tokens without a
segment, bucket s+1 = segment s).

    ratio of each token (ratio.py) -> its surrogate (surrogates.py) x weight for the engine's mismatch (off_policy.py)
    + divergence (kl.py) - entropy bonus -> x weights_BT (aggregation, segment weights) -> one sum

The sum's weights come from the whole batch, so the losses of its micro-batches add up to the batch's loss, and likewise
their gradients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl.kl import kl_estimate
from rl.loss_metrics import TokenMetrics
from rl.metrics import Metric
from rl.objectives import Objective, compute_normalizers
from rl.off_policy import off_policy_weights
from rl.ratio import Buckets, bounded
from rl.surrogates import surrogate_loss

REPORTED_SEGMENTS = 2
"""Segments whose ratios are metrics of their own: slate and rank, or the first two items."""


def policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor | None,
    advantages_BT: Tensor,
    segment_ids_BT: Tensor,
    mask_BT: Tensor,
    *,
    objective: Objective,
    rollout_logprobs_BT: Tensor | None = None,
    ref_logprobs_BT: Tensor | None = None,
    entropy_BT: Tensor | None = None,
    group_ids_B: Tensor | None = None,
    normalizers_S: Tensor | npt.NDArray[np.float64] | None = None,
) -> tuple[Tensor, dict[str, Metric]]:
    """The part of the batch's loss, to be minimised, that falls on these rollouts, and metrics to be merged.

    Per loss token t of segment bucket s, with the surrogate's loss u_t (`rl/surrogates.py`):

        l_t = w_t u_t + kl_coef k_t - entropy_coef H_t
        loss = sum over s of (sum of l_t, or of per-rollout means of l_t, over s) / normalizers_S[s]

    w_t are the off-policy weights, k_t the divergence where it is in the loss, H_t the entropy. Segment weights are in
    the normalisers and so weigh all three. A number that is not finite at a loss token makes the loss NaN or infinite.

    Args:
        logprobs_BT: natural log-probabilities of the sampled tokens under the current policy, temperature applied.
        old_logprobs_BT: the same under the policy at the start of the batch; None = one update per batch, the detached
            current ones (every ratio is exactly 1). Under `bypass` the ratio's denominator is rollout_logprobs_BT, and
            these serve the `sync/` metrics only.
        advantages_BT: per token; a token with 0 gets no policy gradient.
        segment_ids_BT: -1 = no segment, 0.. = segments.
        mask_BT: true at loss tokens. Nothing else is read at the other positions.
        rollout_logprobs_BT: the engine's, compared with the old logprobs; required for `bypass` and off-policy weights.
        ref_logprobs_BT: the frozen reference's; required where the loss has a divergence, else a metric only.
        entropy_BT: of the policy's next-token distribution, in nats; required where entropy_coef > 0, else a metric.
        group_ids_B: which rollouts are of one group; no present objective compares rollouts inside the loss.
        normalizers_S: `compute_normalizers` of the whole optimizer batch; None = these rollouts are the whole batch.

    Raises:
        ValueError: an input that the objective needs is missing.
    """
    _check_inputs(objective, rollout_logprobs_BT, ref_logprobs_BT, entropy_BT)
    mask_BT = mask_BT.bool()
    logprobs_BT = _at_loss_tokens(logprobs_BT, mask_BT)
    learner_BT = logprobs_BT.detach() if old_logprobs_BT is None else _at_loss_tokens(old_logprobs_BT, mask_BT).detach()
    rollout_BT = None if rollout_logprobs_BT is None else _at_loss_tokens(rollout_logprobs_BT, mask_BT).detach()
    old_BT = rollout_BT if objective.bypass and rollout_BT is not None else learner_BT
    advantages_BT = _at_loss_tokens(advantages_BT, mask_BT).detach().to(logprobs_BT.dtype)
    if normalizers_S is None:
        normalizers_S = compute_normalizers(segment_ids_BT.cpu().numpy(), mask_BT.cpu().numpy(), objective=objective)
    norms_S = torch.as_tensor(normalizers_S, dtype=logprobs_BT.dtype, device=logprobs_BT.device)
    buckets = Buckets.of(segment_ids_BT, mask_BT, len(norms_S))
    weights_BT = _token_weights(buckets, norms_S, per_rollout=objective.aggregation in ("sequence", "segment"))
    metrics = TokenMetrics(mask_BT)

    loss_BT, ratio_BT, clipped_BT = surrogate_loss(logprobs_BT, old_BT, advantages_BT, buckets, objective)
    metrics.mean("rl/ratio", ratio_BT)
    metrics.max("rl/ratio_max", ratio_BT)
    metrics.mean("rl/clip_fraction", clipped_BT)
    for segment in range(REPORTED_SEGMENTS if objective.uses_segments else 0):
        inside_BT = mask_BT & (buckets.ids_BT == segment + 1)
        metrics.mean(f"rl/segment_{segment}_ratio", ratio_BT, inside_BT)
        metrics.mean(f"rl/segment_{segment}_clip_fraction", clipped_BT, inside_BT)
    if rollout_BT is not None:
        _measure_mismatch(metrics, learner_BT - rollout_BT)
        if objective.off_policy.is_active:
            off_policy_BT = off_policy_weights(learner_BT, rollout_BT, buckets, objective.off_policy)
            loss_BT = off_policy_BT * loss_BT
            metrics.mean("rl/off_policy_weight", off_policy_BT)
            metrics.mean("rl/off_policy_masked_fraction", off_policy_BT == 0)
    policy = (weights_BT * loss_BT).sum()
    loss = policy
    if ref_logprobs_BT is not None:
        kl_BT = kl_estimate(logprobs_BT, _at_loss_tokens(ref_logprobs_BT, mask_BT).detach(), objective.kl_estimator)
        metrics.mean("rl/kl", kl_BT)
        if objective.loss_kl_coef > 0:
            loss = loss + objective.loss_kl_coef * (weights_BT * kl_BT).sum()
    if entropy_BT is not None:
        entropy_BT = _at_loss_tokens(entropy_BT, mask_BT)
        metrics.mean("rl/entropy", entropy_BT)
        if objective.entropy_coef > 0:
            loss = loss - objective.entropy_coef * (weights_BT * entropy_BT).sum()
    return loss, metrics.collect({"rl/loss": loss, "rl/policy_loss": policy})


def _check_inputs(
    objective: Objective, rollout_BT: Tensor | None, reference_BT: Tensor | None, entropy_BT: Tensor | None
) -> None:
    if objective.loss_kl_coef > 0 and reference_BT is None:
        raise ValueError("kl_coef > 0 needs ref_logprobs_BT")
    if objective.entropy_coef > 0 and entropy_BT is None:
        raise ValueError("entropy_coef > 0 needs entropy_BT")
    if (objective.bypass or objective.off_policy.is_active) and rollout_BT is None:
        raise ValueError("bypass and off-policy weights need rollout_logprobs_BT")


def _at_loss_tokens(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """At least float32, and 0 outside the loss, so that padding cannot reach a sum or a gradient."""
    dtype = torch.promote_types(values_BT.dtype, torch.float32)
    return torch.where(mask_BT, values_BT.to(dtype), 0.0)


def _token_weights(buckets: Buckets, norms_S: Tensor, *, per_rollout: bool) -> Tensor:
    """Weight of each token's loss in the sum; a bucket with tokens here and none in the normalisers gives infinity."""
    weights_BT = 1 / norms_S[buckets.ids_BT]
    if per_rollout:
        weights_BT = weights_BT / buckets.counts(norms_S.dtype)
    return torch.where(buckets.mask_BT, weights_BT, 0.0)


def _measure_mismatch(metrics: TokenMetrics, difference_BT: Tensor) -> None:
    """Learner's minus engine's logprobs, as they are: before anything is truncated or masked."""
    metrics.mean("sync/logprob_gap", difference_BT.abs())
    metrics.max("sync/logprob_gap_max", difference_BT.abs())
    log_BT = bounded(difference_BT)
    ratio_BT = log_BT.exp()
    metrics.mean("sync/mismatch_ratio", ratio_BT)
    metrics.max("sync/mismatch_ratio_max", ratio_BT)
    metrics.mean("sync/mismatch_k3", log_BT.expm1() - log_BT)
    metrics.effective_share("sync/mismatch_ess_fraction", ratio_BT)
