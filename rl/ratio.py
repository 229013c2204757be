"""Probability ratios of the current policy to the old one, per token or averaged over a segment or an answer.

Shapes: B rollouts (rows), T answer tokens, S segment buckets (bucket 0 = tokens without a segment, s+1 = segment s).

    token      log r_t = logprob_t - old_t
    segment    the mean of log r over the rollout's loss tokens of the same bucket
    sequence   the mean of log r over all its loss tokens

A mean has two forms with the same value. `mean`: the gradient goes through the mean (GSPO, arXiv 2507.18071).
`token`: it goes through each token's own logprob (GSPO-token); both are equal as long as all tokens of a mean have the
same advantage and weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl.objective_config import RatioForm, RatioLevel

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut to +-20 before exp: far outside any clip range, and float32 stays finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Which segment bucket each loss token is in."""

    ids_BT: Tensor
    mask_BT: Tensor
    num: int

    @classmethod
    def of(cls, segment_ids_BT: Tensor, mask_BT: Tensor, num: int) -> Buckets:
        return cls(torch.where(mask_BT, segment_ids_BT.long() + 1, 0), mask_BT, num)

    def at(self, level: RatioLevel) -> Buckets:
        """The buckets that share a ratio at this level; `token` has none."""
        return self if level == "segment" else Buckets(torch.zeros_like(self.ids_BT), self.mask_BT, 1)

    def sums(self, values_BT: Tensor) -> Tensor:
        """Each token gets the sum over its rollout's tokens in the same bucket; values are 0 outside the loss."""
        sums_BS = values_BT.new_zeros(len(values_BT), self.num).scatter_add(1, self.ids_BT, values_BT)
        return sums_BS.gather(1, self.ids_BT)

    def counts(self, dtype: torch.dtype) -> Tensor:
        """Each token gets the number of its rollout's loss tokens in the same bucket, at least 1."""
        return self.sums(self.mask_BT.to(dtype)).clamp(min=1)

    def means(self, values_BT: Tensor) -> Tensor:
        """Each token gets the mean over its rollout's loss tokens in the same bucket."""
        return self.sums(values_BT) / self.counts(values_BT.dtype)


def bounded(log_ratio_BT: Tensor) -> Tensor:
    """Cuts to +-MAX_LOG_RATIO; infinities become NaN instead of a bound, so that a broken logprob stays visible."""
    cut_BT = log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.where(log_ratio_BT.isfinite(), cut_BT, torch.nan)


def log_ratios(logprobs_BT: Tensor, old_BT: Tensor, buckets: Buckets, level: RatioLevel, form: RatioForm) -> Tensor:
    """Natural log of the ratio at every token; logprobs are 0 outside the loss."""
    if level == "token":
        return bounded(logprobs_BT - old_BT)
    shared = buckets.at(level)
    if form == "mean":
        return bounded(shared.means(logprobs_BT - old_BT))
    mean_BT = shared.means((logprobs_BT - old_BT).detach())
    return bounded(mean_BT + logprobs_BT - logprobs_BT.detach())
