"""Log-probabilities of answer tokens without the full logits: the last matrix product runs in chunks of tokens.

Shapes: N answer tokens, H hidden size, V vocabulary, C tokens of a chunk.

    forward    logits_CV = hidden_CH @ weight_VH.T / temperature  ->  logprob_N, logsumexp_N; logits_CV are dropped
    backward   logits_CV again, then d logits = (g (onehot - softmax) - h softmax (log softmax + entropy)) / temperature

g and h are the gradients of logprob and entropy. So at most C x V logits exist at a time, at the price of computing
them twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LogprobHead(nn.Module):
    """A model's output layer that can score given tokens in chunks. It keeps the layer's own weight, tied or not.

    As a module of its own it is seen by DeepSpeed's ZeRO-3 hooks, which gather the weight around its forward and its
    backward pass.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        if linear.bias is not None:
            raise ValueError("an output layer with a bias is not supported")
        self.weight = linear.weight

    def forward(
        self,
        hidden_NH: Tensor,
        labels_N: Tensor | None = None,
        *,
        temperature: float = 1.0,
        chunk: int = 512,
        with_entropy: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(logprobs_N, entropy_N) of `labels_N`, see `chunked_logprobs`; plain logits without labels."""
        if labels_N is None:
            return nn.functional.linear(hidden_NH, self.weight)
        return chunked_logprobs(
            hidden_NH, self.weight, labels_N, temperature=temperature, chunk=chunk, with_entropy=with_entropy
        )


def chunked_logprobs(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    labels_N: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = 512,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """log softmax(hidden @ weight.T / temperature) at the labels, and the entropy of that distribution.

    Returns logprobs_N and entropy_N in nats, float32 (float64 for float64 input). Both carry a gradient to hidden and
    weight; entropy_N is zero, without one, unless asked for. Softmax is float32; the weight's gradient is summed over
    chunks in float32. At most `chunk` x V logits exist at a time (twice that in the backward pass of an entropy).
    """
    return _ChunkedLogprobs.apply(hidden_NH, weight_VH, labels_N, temperature, chunk, with_entropy)


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, labels_N: Tensor, temperature: float, chunk: int, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(hidden_NH.dtype, torch.float32)
        num_tokens = len(labels_N)
        logprobs_N = torch.empty(num_tokens, dtype=dtype, device=hidden_NH.device)
        logsumexp_N, entropy_N = torch.empty_like(logprobs_N), torch.zeros_like(logprobs_N)
        for start in range(0, num_tokens, chunk):
            part = slice(start, start + chunk)
            shifted_CV = _logits(hidden_NH[part], weight_VH, temperature, dtype)
            largest_C = shifted_CV.amax(-1)
            shifted_CV.sub_(largest_C[:, None])
            label_C = shifted_CV.gather(1, labels_N[part, None]).squeeze(1)
            weights_CV = shifted_CV.exp() if entropy else shifted_CV.exp_()
            total_C = weights_CV.sum(-1)
            logprobs_N[part] = label_C - total_C.log()
            logsumexp_N[part] = largest_C + total_C.log()
            if entropy:
                entropy_N[part] = total_C.log() - torch.linalg.vecdot(weights_CV, shifted_CV) / total_C
        ctx.save_for_backward(hidden_NH, weight_VH, labels_N, logsumexp_N, entropy_N)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.set_materialize_grads(False)
        if not entropy:
            ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # type: ignore[override]
        hidden_NH, weight_VH, labels_N, logsumexp_N, entropy_N = ctx.saved_tensors
        grad_N: Tensor = torch.zeros_like(logsumexp_N) if grad_outputs[0] is None else grad_outputs[0]
        grad_entropy_N: Tensor | None = None if grad_outputs[1] is None else grad_outputs[1] / ctx.temperature
        grad_hidden_NH = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        grad_weight_VH: Tensor | None = None
        grad_N = grad_N / ctx.temperature
        for start in range(0, len(labels_N), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            d_logits_CV = _logits(hidden_NH[part], weight_VH, ctx.temperature, logsumexp_N.dtype)
            d_logits_CV.sub_(logsumexp_N[part, None])
            if grad_entropy_N is None:
                d_logits_CV.exp_().mul_(-grad_N[part, None])
            else:
                scale_CV = grad_entropy_N[part, None] * (d_logits_CV + entropy_N[part, None]) + grad_N[part, None]
                d_logits_CV.exp_().mul_(-scale_CV)
            d_logits_CV.scatter_add_(1, labels_N[part, None], grad_N[part, None])
            d_logits_CV = d_logits_CV.to(hidden_NH.dtype)
            if grad_hidden_NH is not None:
                torch.mm(d_logits_CV, weight_VH, out=grad_hidden_NH[part])
            if ctx.needs_input_grad[1]:
                d_weight_VH = d_logits_CV.t() @ hidden_NH[part]
                if grad_weight_VH is None:
                    grad_weight_VH = d_weight_VH if len(labels_N) <= ctx.chunk else d_weight_VH.to(logsumexp_N.dtype)
                else:
                    grad_weight_VH += d_weight_VH
        if ctx.needs_input_grad[1]:
            grad_weight_VH = torch.zeros_like(weight_VH) if grad_weight_VH is None else grad_weight_VH
            grad_weight_VH = grad_weight_VH.to(weight_VH.dtype)
        return grad_hidden_NH, grad_weight_VH, None, None, None, None


def _logits(hidden_CH: Tensor, weight_VH: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
    logits_CV = (hidden_CH @ weight_VH.t()).to(dtype)
    return logits_CV if temperature == 1.0 else logits_CV.mul_(1.0 / temperature)
