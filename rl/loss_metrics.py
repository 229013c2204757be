"""Metrics over loss tokens, gathered on the device and read from it once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rl.metrics import EffectiveShare, Max, Mean, Metric, Sum


class TokenMetrics:
    """Values per token go in, mergeable metrics come out.

    Shapes: B rollouts, T answer tokens.
    """

    def __init__(self, mask_BT: Tensor):
        self._mask_BT = mask_BT
        self._means: dict[str, tuple[Tensor, Tensor]] = {}
        self._maxima: dict[str, Tensor] = {}
        self._shares: dict[str, tuple[Tensor, Tensor]] = {}
        self._num_tokens = mask_BT.sum()

    @torch.no_grad()
    def mean(self, key: str, values_BT: Tensor, mask_BT: Tensor | None = None) -> None:
        """Over the loss tokens, or over those of them that `mask_BT` names."""
        inside_BT = self._mask_BT if mask_BT is None else mask_BT
        count = self._num_tokens if mask_BT is None else mask_BT.sum()
        self._means[key] = (torch.where(inside_BT, values_BT.detach(), 0).sum(), count)

    @torch.no_grad()
    def max(self, key: str, values_BT: Tensor) -> None:
        self._maxima[key] = torch.where(self._mask_BT, values_BT.detach(), -torch.inf).amax()

    @torch.no_grad()
    def effective_share(self, key: str, weights_BT: Tensor) -> None:
        inside_BT = torch.where(self._mask_BT, weights_BT.detach(), 0)
        self._shares[key] = (inside_BT.sum(), inside_BT.square().sum())

    @torch.no_grad()
    def collect(self, sums: Mapping[str, Tensor]) -> dict[str, Metric]:
        """Everything, with `sums` and the number of loss tokens, in one copy from the device."""
        pairs = [*self._means.values(), *self._shares.values()]
        tensors = [self._num_tokens, *sums.values(), *self._maxima.values(), *(x for pair in pairs for x in pair)]
        num_tokens, *numbers = torch.stack([tensor.detach().double() for tensor in tensors]).tolist()
        values = iter(numbers)
        metrics: dict[str, Metric] = {"rl/num_tokens": Sum(num_tokens)}
        metrics |= {key: Sum(next(values)) for key in sums}
        metrics |= {key: Max(next(values)) for key in self._maxima}
        metrics |= {key: Mean(next(values), next(values)) for key in self._means}
        metrics |= {key: EffectiveShare(next(values), next(values), num_tokens) for key in self._shares}
        return metrics
