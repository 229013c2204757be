from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rl.logprobs import LogprobHead, chunked_logprobs


def plain_logprobs(hidden_NH: Tensor, weight_VH: Tensor, labels_N: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The oracle: all logits at once, through log_softmax."""
    log_softmax_NV = torch.log_softmax(hidden_NH @ weight_VH.t() / temperature, dim=-1)
    logprobs_N = log_softmax_NV.gather(1, labels_N[:, None]).squeeze(1)
    return logprobs_N, -(log_softmax_NV.exp() * log_softmax_NV).sum(-1)


def make_inputs(num_tokens: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden_NH = torch.randn(num_tokens, 5, generator=generator, dtype=dtype, requires_grad=True)
    weight_VH = torch.randn(11, 5, generator=generator, dtype=dtype, requires_grad=True)
    return hidden_NH, weight_VH, torch.randint(11, (num_tokens,), generator=generator)


def test_two_tokens_by_hand() -> None:
    # Logits (0, ln 3): probabilities 1/4 and 3/4. At temperature 1/2 they are squared: 1/10 and 9/10.
    hidden_NH, weight_VH = torch.ones(2, 1), torch.tensor([[0.0], [3.0]]).log().nan_to_num(neginf=0.0)
    labels_N = torch.tensor([0, 1])
    logprobs_N, _ = chunked_logprobs(hidden_NH, weight_VH, labels_N)
    torch.testing.assert_close(logprobs_N.exp(), torch.tensor([0.25, 0.75]))
    logprobs_N, _ = chunked_logprobs(hidden_NH, weight_VH, labels_N, temperature=0.5)
    torch.testing.assert_close(logprobs_N.exp(), torch.tensor([0.1, 0.9]))


@settings(max_examples=30)
@given(
    num_tokens=st.integers(1, 9),
    chunk=st.integers(1, 10),
    temperature=st.sampled_from([0.7, 1.0, 1.6]),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_are_those_of_log_softmax(
    num_tokens: int, chunk: int, temperature: float, seed: int
) -> None:
    hidden_NH, weight_VH, labels_N = make_inputs(num_tokens, seed)
    weights_N = torch.randn(num_tokens, generator=torch.Generator().manual_seed(seed + 1))
    expected_N, expected_entropy_N = plain_logprobs(hidden_NH, weight_VH, labels_N, temperature)
    expected_grads = torch.autograd.grad((weights_N * expected_N).sum(), (hidden_NH, weight_VH))

    logprobs_N, entropy_N = chunked_logprobs(
        hidden_NH, weight_VH, labels_N, temperature=temperature, chunk=chunk, with_entropy=True
    )
    grads = torch.autograd.grad((weights_N * logprobs_N).sum(), (hidden_NH, weight_VH))

    torch.testing.assert_close(logprobs_N, expected_N, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(entropy_N, expected_entropy_N, atol=1e-5, rtol=1e-5)
    for grad, expected in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parts", [(0,), (1,), (0, 1)], ids=["logprob", "entropy", "both"])
def test_gradcheck_in_float64(parts: tuple[int, ...]) -> None:
    hidden_NH, weight_VH, labels_N = make_inputs(7, seed=3, dtype=torch.float64)

    def run(hidden_NH: Tensor, weight_VH: Tensor) -> tuple[Tensor, ...]:
        found = chunked_logprobs(hidden_NH, weight_VH, labels_N, temperature=1.3, chunk=3, with_entropy=True)
        return tuple(found[part] for part in parts)

    assert torch.autograd.gradcheck(run, (hidden_NH, weight_VH))


def test_an_entropy_that_no_loss_reads_costs_no_gradient() -> None:
    hidden_NH, weight_VH, labels_N = make_inputs(5, seed=1)
    grads = []
    for with_entropy in (False, True):
        logprobs_N, _ = chunked_logprobs(hidden_NH, weight_VH, labels_N, chunk=2, with_entropy=with_entropy)
        grads.append(torch.autograd.grad(logprobs_N.sum(), (hidden_NH, weight_VH)))
    for without, beside in zip(*grads, strict=True):
        torch.testing.assert_close(without, beside, rtol=0, atol=0)


def test_entropy_is_zero_and_without_a_gradient_unless_asked_for() -> None:
    hidden_NH, weight_VH, labels_N = make_inputs(4, seed=0)
    _, entropy_N = chunked_logprobs(hidden_NH, weight_VH, labels_N)
    assert not entropy_N.any()
    assert not entropy_N.requires_grad


def test_frozen_inputs_get_no_gradient() -> None:
    hidden_NH, weight_VH, labels_N = make_inputs(4, seed=0)
    chunked_logprobs(hidden_NH.detach(), weight_VH, labels_N, chunk=3)[0].sum().backward()
    assert weight_VH.grad is not None
    chunked_logprobs(hidden_NH, weight_VH.detach(), labels_N, chunk=3)[0].sum().backward()
    assert hidden_NH.grad is not None


def test_without_tokens_the_gradient_is_zero() -> None:
    hidden_NH, weight_VH, labels_N = make_inputs(1, seed=0)
    chunked_logprobs(hidden_NH[:0], weight_VH, labels_N[:0])[0].sum().backward()
    assert weight_VH.grad is not None
    assert not weight_VH.grad.any()


def test_bfloat16_stays_near_float32_and_is_summed_over_chunks_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden_NH = torch.randn(64, 32, generator=generator).bfloat16().requires_grad_()
    weight_VH = (torch.randn(50, 32, generator=generator) / 6).bfloat16().requires_grad_()
    labels_N = torch.randint(50, (64,), generator=generator)
    expected_N, _ = plain_logprobs(hidden_NH.float(), weight_VH.float(), labels_N, 1.0)
    expected = torch.autograd.grad(expected_N.sum(), weight_VH)[0].float()
    logprobs_N, _ = chunked_logprobs(hidden_NH, weight_VH, labels_N, chunk=1)
    grad = torch.autograd.grad(logprobs_N.sum(), weight_VH)[0].float()
    assert logprobs_N.dtype == torch.float32
    torch.testing.assert_close(logprobs_N, expected_N, atol=0.02, rtol=0)
    assert (grad - expected).norm() < 0.01 * expected.norm()


def test_at_most_a_chunk_of_logits_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    import rl.logprobs

    seen: list[int] = []
    real = rl.logprobs._logits

    def spy(hidden_CH: Tensor, *args: object) -> Tensor:
        seen.append(len(hidden_CH))
        return real(hidden_CH, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(rl.logprobs, "_logits", spy)
    hidden_NH, weight_VH, labels_N = make_inputs(10, seed=0)
    chunked_logprobs(hidden_NH, weight_VH, labels_N, chunk=4)[0].sum().backward()
    assert seen == [4, 4, 2, 4, 4, 2]


def test_the_head_keeps_the_layers_own_weight() -> None:
    linear = nn.Linear(4, 6, bias=False)
    head = LogprobHead(linear)
    assert head.weight is linear.weight
    hidden_NH = torch.randn(3, 4)
    torch.testing.assert_close(head(hidden_NH), linear(hidden_NH))
    with pytest.raises(ValueError, match="bias"):
        LogprobHead(nn.Linear(4, 6))
