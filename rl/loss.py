"""The policy loss: one function, every objective is a setting of it.

Shapes: B rollouts (rows), T answer tokens padded to the longest, S segment buckets (bucket 0 = tokens without a
segment, bucket s+1 = segment s).

    log-ratio per token -> mean over the ratio level -> clipped surrogate (+ k3) per token -> weights_BT -> one sum

The sum's weights come from the whole batch, so the losses of its micro-batches add up to the batch's loss, and likewise
their gradients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl.metrics import Max, Mean, Metric, Sum
from rl.objective_config import RatioLevel
from rl.objectives import Objective, compute_normalizers

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut to +-20 before exp: far outside any clip range, and float32 stays finite."""


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

    Per loss token, with ratio r and advantage A (surrogate: arXiv 1707.06347, eq. 7; k3: arXiv 2402.03300, eq. 4):

        l_t = - min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + kl_coef (exp(d) - d - 1),   d = ref - logprob
        loss = sum over segment buckets s of (sum of l_t, or of per-rollout means of l_t, over s) / normalizers_S[s]

    Ratio levels: `token` exp(logprob - old). `segment` and `sequence` average the log-ratio over the rollout's tokens
    of the same bucket, or over all of them, in GSPO's token form (arXiv 2507.18071): the value is the mean's, the
    gradient goes through each token's own logprob. A number that is not finite at a loss token makes the loss NaN or
    infinite.

    Args:
        logprobs_BT: natural log-probabilities of the sampled tokens under the current policy, temperature applied.
        old_logprobs_BT: the same under the policy at the start of the batch; None = one update per batch, the detached
            current ones (every ratio is exactly 1).
        advantages_BT: per token; a token with 0 gets no policy gradient.
        segment_ids_BT: -1 = no segment, 0.. = segments.
        mask_BT: true at loss tokens. Nothing else is read at the other positions.
        rollout_logprobs_BT: the engine's, for the `sync/` metrics: they are compared with the old logprobs.
        ref_logprobs_BT: the frozen reference's; required where kl_coef > 0, else a metric only.
        entropy_BT: of the policy's next-token distribution, in nats; a metric.
        group_ids_B: which rollouts are of one group; no present objective compares rollouts inside the loss.
        normalizers_S: `compute_normalizers` of the whole optimizer batch; None = these rollouts are the whole batch.

    Raises:
        ValueError: kl_coef without reference logprobs.
    """
    if objective.kl_coef > 0 and ref_logprobs_BT is None:
        raise ValueError("kl_coef > 0 needs ref_logprobs_BT")
    mask_BT = mask_BT.bool()
    logprobs_BT = _at_loss_tokens(logprobs_BT, mask_BT)
    old_BT = logprobs_BT.detach() if old_logprobs_BT is None else _at_loss_tokens(old_logprobs_BT, mask_BT).detach()
    advantages_BT = _at_loss_tokens(advantages_BT, mask_BT).detach().to(logprobs_BT.dtype)
    buckets_BT = torch.where(mask_BT, segment_ids_BT.long() + 1, 0)
    if normalizers_S is None:
        normalizers_S = compute_normalizers(segment_ids_BT.cpu().numpy(), mask_BT.cpu().numpy(), objective=objective)
    norms_S = torch.as_tensor(normalizers_S, dtype=logprobs_BT.dtype, device=logprobs_BT.device)
    weights_BT = _token_weights(buckets_BT, mask_BT, norms_S, per_rollout=objective.aggregation == "sequence")

    ratio_BT = _log_ratio(logprobs_BT, old_BT, buckets_BT, mask_BT, len(norms_S), objective.ratio_level).exp()
    low, high = 1 - objective.clip_low, 1 + objective.clip_high
    surrogate_BT = torch.minimum(ratio_BT * advantages_BT, ratio_BT.clamp(low, high) * advantages_BT)
    policy = -(weights_BT * surrogate_BT).sum()
    loss = policy

    means = {
        "rl/ratio": ratio_BT.detach(),
        "rl/clip_fraction": ((advantages_BT > 0) & (ratio_BT > high)) | ((advantages_BT < 0) & (ratio_BT < low)),
    }
    maxima = {"rl/ratio_max": ratio_BT.detach()}
    if ref_logprobs_BT is not None:
        kl_BT = _k3(_at_loss_tokens(ref_logprobs_BT, mask_BT).detach() - logprobs_BT)
        means["rl/kl"] = kl_BT.detach()
        if objective.kl_coef > 0:
            loss = policy + objective.kl_coef * (weights_BT * kl_BT).sum()
    if rollout_logprobs_BT is not None:
        difference_BT = old_BT - _at_loss_tokens(rollout_logprobs_BT, mask_BT).detach()
        means["sync/logprob_gap"] = maxima["sync/logprob_gap_max"] = difference_BT.abs()
        means["sync/mismatch_k3"] = _k3(difference_BT)
    if entropy_BT is not None:
        means["rl/entropy"] = entropy_BT.detach()
    return loss, _collect({"rl/loss": loss.detach(), "rl/policy_loss": policy.detach()}, means, maxima, mask_BT)


def _at_loss_tokens(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """At least float32, and 0 outside the loss, so that padding cannot reach a sum or a gradient."""
    dtype = torch.promote_types(values_BT.dtype, torch.float32)
    return torch.where(mask_BT, values_BT.to(dtype), 0.0)


def _bounded(log_ratio_BT: Tensor) -> Tensor:
    """Cuts to +-MAX_LOG_RATIO; infinities become NaN instead of a bound, so that a broken logprob stays visible."""
    cut_BT = log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.where(log_ratio_BT.isfinite(), cut_BT, torch.nan)


def _k3(difference_BT: Tensor) -> Tensor:
    """exp(d) - d - 1 >= 0; expm1 keeps its digits near 0."""
    bounded_BT = _bounded(difference_BT)
    return bounded_BT.expm1() - bounded_BT


def _bucket_means(values_BT: Tensor, buckets_BT: Tensor, mask_BT: Tensor, num_buckets: int) -> Tensor:
    """Each loss token gets the mean over its rollout's loss tokens in the same bucket."""
    sums_BS = values_BT.new_zeros(len(values_BT), num_buckets).scatter_add(1, buckets_BT, values_BT)
    return sums_BS.gather(1, buckets_BT) / _bucket_counts(buckets_BT, mask_BT, num_buckets, values_BT.dtype)


def _bucket_counts(buckets_BT: Tensor, mask_BT: Tensor, num_buckets: int, dtype: torch.dtype) -> Tensor:
    """Each token gets the number of its rollout's loss tokens in the same bucket, at least 1."""
    counts_BS = torch.zeros(len(mask_BT), num_buckets, dtype=dtype, device=mask_BT.device)
    return counts_BS.scatter_add(1, buckets_BT, mask_BT.to(dtype)).gather(1, buckets_BT).clamp(min=1)


def _log_ratio(
    logprobs_BT: Tensor, old_BT: Tensor, buckets_BT: Tensor, mask_BT: Tensor, num_buckets: int, level: RatioLevel
) -> Tensor:
    if level == "token":
        return _bounded(logprobs_BT - old_BT)
    if level == "sequence":
        buckets_BT, num_buckets = torch.zeros_like(buckets_BT), 1
    mean_BT = _bucket_means((logprobs_BT - old_BT).detach(), buckets_BT, mask_BT, num_buckets)
    return _bounded(mean_BT + logprobs_BT - logprobs_BT.detach())


def _token_weights(buckets_BT: Tensor, mask_BT: Tensor, norms_S: Tensor, *, per_rollout: bool) -> Tensor:
    """Weight of each token's loss in the sum; a bucket with tokens here and none in the normalisers gives infinity."""
    weights_BT = 1 / norms_S[buckets_BT]
    if per_rollout:
        weights_BT = weights_BT / _bucket_counts(buckets_BT, mask_BT, len(norms_S), norms_S.dtype)
    return torch.where(mask_BT, weights_BT, 0.0)


@torch.no_grad()
def _collect(
    sums: dict[str, Tensor], means: dict[str, Tensor], maxima: dict[str, Tensor], mask_BT: Tensor
) -> dict[str, Metric]:
    """Reads all metrics from the device at once."""
    tensors = [mask_BT.sum(), *sums.values()]
    tensors += [torch.where(mask_BT, values_BT, 0).sum() for values_BT in means.values()]
    tensors += [torch.where(mask_BT, values_BT, -torch.inf).amax() for values_BT in maxima.values()]
    num_tokens, *numbers = torch.stack([tensor.double() for tensor in tensors]).tolist()
    values = iter(numbers)
    metrics: dict[str, Metric] = {"rl/num_tokens": Sum(num_tokens)}
    metrics |= {key: Sum(next(values)) for key in sums}
    metrics |= {key: Mean(next(values), num_tokens) for key in means}
    metrics |= {key: Max(next(values)) for key in maxima}
    return metrics
