"""Whether the learner's way to log-probabilities is right for a model, asked once, before it learns.

    one prompt, two answers --packed (or padded), as in training--> logprobs --+
                                                                               +-- the same tokens: the same numbers?
    each answer by itself ----the model's own call, eager attention------------+

Only attention knows where an answer ends. Recurrent and convolutional layers run straight across the packed row, and a
model may have parts that neither `shared_prefix` nor `policy` knows: no list of architectures can be complete.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rewards.errors import UserError
from rl import shared_prefix
from rl.batching import build_micro_batches
from rl.config import LearnerConfig
from rl.policy import Policy
from rl.types import TrainGroup, TrainRollout

PROMPT_LENGTH, ANSWER_LENGTHS = 6, (12, 3)
"""The second answer is short, because what leaks out of the first may reach only a few tokens (convolutions)."""

MAX_GAP = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Mean difference of an answer's logprobs from the model's own, over their standard deviation. Rounding alone leaves
1e-5 in float32 and 0.03 in bfloat16 (30 layers); what leaks out of another answer 0.2 to 1.5 (tiny random models)."""

CANNOT = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What models raise that do not take a packed row, or whose parts are not where others have them."""


@torch.no_grad()
def check_model(policy: Policy, model_dir: str | Path, config: LearnerConfig, device: torch.device) -> None:
    """On every rank at once, since under ZeRO-3 each holds a part of the weights.

    Raises:
        UserError: the log-probabilities are not the model's own; what to change, if anything helps.
    """
    fault = _fault(policy, config.share_prompt, device)
    if fault is None:
        return
    if config.share_prompt and _fault(policy, False, device) is None:
        raise UserError(f"{model_dir}: its answers cannot share a prompt ({fault}); set rl.learner.share_prompt: false")
    # A layer that reads the weight of a layer inside it, past ZeRO-3's hooks, finds only this rank's part.
    cure = "try rl.learner.zero_stage: 2, or another model" if config.zero_stage == 3 else "use another model"
    raise UserError(f"{model_dir}: podium cannot train this model ({fault}); {cure}")


def _fault(policy: Policy, share_prompt: bool, device: torch.device) -> str | None:
    group = _group(policy.model.config.get_text_config().vocab_size)
    padded = "sdpa" if policy.model._supports_sdpa else "eager"
    try:
        policy.model.set_attn_implementation("eager")
        expected = _alone(policy, group, device)
        policy.model.set_attn_implementation(shared_prefix.register() if share_prompt else padded)
        found = _as_trained(policy, group, share_prompt, device)
    except torch.OutOfMemoryError:
        raise
    except CANNOT as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
    gap = max(np.abs(row - own).mean() for row, own in zip(found, expected, strict=True))
    deviation = np.concatenate(expected).std()
    if gap <= MAX_GAP[policy.model.dtype] * deviation:
        return None
    return f"its logprobs are {gap / deviation:.2g} standard deviations away from the model's own"


def _alone(policy: Policy, group: TrainGroup, device: torch.device) -> list[np.ndarray]:
    """Logprobs of each answer by itself, as the model computes logits."""
    rows = []
    for rollout in group.rollouts:
        ids_L = torch.from_numpy(np.concatenate([group.prompt_token_ids, rollout.token_ids])).to(device)
        logits_LV = policy.model(input_ids=ids_L[None], use_cache=False).logits[0].float() / policy.temperature
        logprobs_LV = logits_LV.log_softmax(-1)[PROMPT_LENGTH - 1 : -1]
        rows.append(logprobs_LV.gather(1, ids_L[PROMPT_LENGTH:, None]).squeeze(1).cpu().numpy())
    return rows


def _as_trained(policy: Policy, group: TrainGroup, share_prompt: bool, device: torch.device) -> list[np.ndarray]:
    (batch,) = build_micro_batches([group], max_tokens=1000, share_prompt=share_prompt)
    logprobs_BT = policy(batch.to(device))[0].float().cpu().numpy()
    rows = dict(zip(batch.rollout_ids_B, logprobs_BT, strict=True))
    return [rows[number][:length] for number, length in enumerate(ANSWER_LENGTHS)]


def _group(vocab_size: int) -> TrainGroup:
    """Ordinary tokens: special ones have the first and the last ids."""
    rng = np.random.default_rng(0)

    def tokens(length: int) -> np.ndarray:
        return rng.integers(vocab_size // 4, vocab_size // 2, length)

    def answer(length: int) -> TrainRollout:
        nothing = np.zeros(length, dtype=np.float32)
        return TrainRollout(tokens(length), np.ones(length, dtype=bool), nothing, np.full(length, -1), nothing)

    return TrainGroup(0, tokens(PROMPT_LENGTH), tuple(answer(length) for length in ANSWER_LENGTHS))
