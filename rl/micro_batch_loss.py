"""One micro-batch through the policy, and the part of the batch's loss that falls on it.

Shapes: B rollouts, T longest answer, S segment buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rl.batching import MicroBatch
from rl.loss import policy_loss
from rl.metrics import Metric
from rl.objectives import Objective
from rl.sft import SFT, cross_entropy


def micro_batch_loss(
    batch: MicroBatch,
    policy: Callable[..., tuple[Tensor, Tensor]],
    reference: Callable[..., tuple[Tensor, Tensor]] | None,
    objective: Objective,
    normalizers_S: np.ndarray,
    old: Sequence[np.ndarray] | None,
) -> tuple[Tensor, dict[str, Metric]]:
    """Loss, with its graph, and metrics to be merged.

    Args:
        policy, reference: batch to (logprobs_BT, entropy_BT); the reference is asked where the loss has a divergence.
        normalizers_S: of the whole optimizer batch.
        old: logprobs of the policy at the start of the batch, per rollout of the whole batch; None = one update.
    """
    if objective.kind == SFT:
        logprobs_BT, _ = policy(batch)
        return cross_entropy(logprobs_BT, batch.mask_BT, normalizers_S)
    ref_logprobs_BT = None
    if reference is not None and objective.loss_kl_coef > 0:
        with torch.no_grad():
            ref_logprobs_BT, _ = reference(batch)
    logprobs_BT, entropy_BT = policy(batch, with_entropy=True)
    return policy_loss(
        logprobs_BT,
        None if old is None else _stack([old[number] for number in batch.rollout_ids_B], logprobs_BT),
        batch.advantages_BT,
        batch.segment_ids_BT,
        batch.mask_BT,
        objective=objective,
        rollout_logprobs_BT=batch.rollout_logprobs_BT,
        ref_logprobs_BT=ref_logprobs_BT,
        entropy_BT=entropy_BT,
        group_ids_B=batch.group_ids_B,
        normalizers_S=normalizers_S,
    )


def _stack(rows: Sequence[np.ndarray], like_BT: Tensor) -> Tensor:
    stacked_BT = np.zeros(like_BT.shape, dtype=np.float32)
    for b, row in enumerate(rows):
        stacked_BT[b, : len(row)] = row
    return torch.from_numpy(stacked_BT).to(like_BT.device)
