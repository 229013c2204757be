from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rewards.errors import UserError
from rl import shared_prefix
from rl.batching import build_micro_batches
from rl.config import LearnerConfig
from rl.policy import Policy, load_policy
from rl.types import TrainGroup
from rollouts.tiny import build_tiny_model
from tests.rl.learner_data import make_groups

VOCAB = 384
UNEVEN: list[tuple[int, list[int]]] = [(7, [5, 1, 9]), (3, [4, 4]), (11, [2, 12, 3, 6])]


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"), tie_embeddings=request.param, head_dim=16)


def load(model_dir: Path, *, share: bool) -> Policy:
    return load_policy(model_dir, LearnerConfig(dtype="float32", share_prompt=share, logprob_chunk=7), temperature=0.8)


def run(
    policy: Policy, groups: list[TrainGroup], *, share: bool, budget: int
) -> tuple[dict[int, Tensor], list[Tensor]]:
    """Logprobs per rollout, and the gradient of a weighted sum of all of them."""
    policy.zero_grad()
    found: dict[int, Tensor] = {}
    for batch in build_micro_batches(groups, max_tokens=budget, share_prompt=share):
        logprobs_BT, _ = policy(batch)
        (logprobs_BT * batch.advantages_BT).sum().backward()
        found |= {number: logprobs_BT[b].detach() for b, number in enumerate(batch.rollout_ids_B)}
    return found, [parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None]


def plain(policy: Policy, groups: list[TrainGroup]) -> tuple[list[Tensor], list[Tensor]]:
    """The oracle: one rollout at a time through the model's own forward pass and log_softmax."""
    policy.zero_grad()
    found = []
    for group in groups:
        for rollout in group.rollouts:
            prompt, answer = torch.tensor(group.prompt_token_ids), torch.tensor(rollout.token_ids)
            logits = policy.model(input_ids=torch.cat([prompt, answer]).long()[None]).logits[0]
            rows = torch.log_softmax(logits[len(prompt) - 1 : -1] / policy.temperature, dim=-1)
            logprobs_T = rows.gather(1, answer.long()[:, None]).squeeze(1) * torch.tensor(rollout.loss_mask)
            (logprobs_T * torch.tensor(rollout.advantages)).sum().backward()
            found.append(logprobs_T.detach())
    return found, [parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None]


def assert_equal_grads(grads: list[Tensor], expected: list[Tensor]) -> None:
    scale = max(grad.abs().max() for grad in expected)
    assert scale > 0
    for grad, other in zip(grads, expected, strict=True):
        assert (grad - other).abs().max() < 3e-6 * scale


@pytest.mark.parametrize("budget", [20, 40, 1000])
@pytest.mark.parametrize("fused", [False, True])
def test_packed_and_padded_rows_equal_one_rollout_at_a_time(
    model_dir: Path, budget: int, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fused:
        monkeypatch.setattr(shared_prefix, "MAX_SCORE_BYTES", 0)
    groups = make_groups(UNEVEN, vocab_size=VOCAB, masked=True)
    expected, expected_grads = plain(load(model_dir, share=False), groups)
    for share in (True, False):
        found, grads = run(load(model_dir, share=share), groups, share=share, budget=budget)
        assert len(found) == len(expected)
        for number, logprobs_T in enumerate(expected):
            torch.testing.assert_close(found[number][: len(logprobs_T)], logprobs_T, atol=1e-4, rtol=0)
        assert_equal_grads(grads, expected_grads)


def test_an_answer_does_not_see_its_neighbours(model_dir: Path) -> None:
    policy = load(model_dir, share=True)
    groups = make_groups([(5, [6, 6])], vocab_size=VOCAB)
    before, _ = run(policy, groups, share=True, budget=1000)
    groups[0].rollouts[1].token_ids[:] = (groups[0].rollouts[1].token_ids + 1) % VOCAB
    after, _ = run(policy, groups, share=True, budget=1000)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_a_short_window_is_refused() -> None:
    packing = shared_prefix.build_packing([3], [[2, 2]])
    states = torch.zeros(1, 1, 7, 4)
    with pytest.raises(UserError, match="share_prompt: false"):
        shared_prefix.shared_prefix_attention(
            nn.Module(), states, states, states, None, scaling=1.0, packing=packing, sliding_window=4
        )


def test_the_mask_by_hand() -> None:
    packing = shared_prefix.build_packing([1, 2], [[2], [1]])
    assert packing.mask_R1TX.int().tolist() == [
        [[[1, 0, 1, 0], [1, 0, 1, 1]]],  # prompt of one token, padded to two; then causal
        [[[1, 1, 1, 0], [1, 1, 1, 1]]],  # the second query is padding
    ]
    assert packing.packed_L.tolist() == [0, 4, 5, 2, 3, 6]
    assert packing.places_M.tolist() == [0, 0, 3, 4, 1, 2, 5, 0]
