"""Learning from written answers on the learner that ranks: rows become groups, the loss is cross-entropy.

    rows --encode--> dialogues --rows with one prompt share a group--> TrainGroup --Learner.step--> weights
                                                                          |
                                        Learner.logprobs of held-out rows +--> loss, perplexity

Shapes: B rollouts, T longest answer, S segment buckets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rl.config import ObjectiveConfig
from rl.metrics import Metric, Sum
from rl.objectives import Objective, resolve_objective
from rl.types import TrainGroup, TrainRollout
from rollouts.dialogue import Dialogue

if TYPE_CHECKING:
    from torch import Tensor

SFT = "sft"
"""Kind of the objective that makes a learner minimise `cross_entropy`."""


def sft_objective() -> Objective:
    """What tells a learner to learn from answers: a mean over all answer tokens of a step, no reference model."""
    token_mean = resolve_objective(
        ObjectiveConfig(kind="dapo", advantage="mean"), reward_kind="metric", shrunk=False, max_tokens=1
    )
    return replace(token_mean, kind=SFT)


def cross_entropy(
    logprobs_BT: Tensor, mask_BT: Tensor, normalizers_S: npt.NDArray[np.float64]
) -> tuple[Tensor, dict[str, Metric]]:
    """Sum of -logprob over loss tokens divided by the number of them in the whole optimizer batch.

    The parts of a batch add up to the same loss and gradient however it is cut.

    Args:
        logprobs_BT: natural log-probabilities of the rows' tokens.
        mask_BT: true at answer tokens; nothing is read elsewhere.
        normalizers_S: loss tokens of the whole batch; rows have no segments, so the first bucket has them all.
    """
    loss = -logprobs_BT.masked_fill(~mask_BT, 0.0).sum() / float(normalizers_S[0])
    value = float(loss.detach())
    return loss, {"rl/loss": Sum(value), "rl/policy_loss": Sum(value), "rl/num_tokens": Sum(float(mask_BT.sum()))}


def make_groups(dialogues: Sequence[Dialogue]) -> list[TrainGroup]:
    """Rows with the same prompt become one group, which reads it once; in order of their first rows."""
    members: dict[bytes, list[Dialogue]] = {}
    for dialogue in dialogues:
        members.setdefault(dialogue.prompt_token_ids.tobytes(), []).append(dialogue)
    return [
        TrainGroup(index, same[0].prompt_token_ids, tuple(_rollout(dialogue) for dialogue in same))
        for index, same in enumerate(members.values())
    ]


def _rollout(dialogue: Dialogue) -> TrainRollout:
    length = len(dialogue.answer_token_ids)
    return TrainRollout(
        token_ids=dialogue.answer_token_ids,
        loss_mask=dialogue.loss_mask,
        advantages=dialogue.loss_mask.astype(np.float32),
        segment_ids=np.full(length, -1, dtype=np.int32),
        rollout_logprobs=np.zeros(length, dtype=np.float32),
    )


@dataclass(frozen=True, slots=True)
class HeldoutLoss:
    """loss: mean over answer tokens, in nats."""

    loss: float
    num_tokens: int

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that is too large for a float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


def heldout_loss(groups: Sequence[TrainGroup], logprobs: Sequence[npt.NDArray[np.float32]]) -> HeldoutLoss:
    """The loss of groups from `Learner.logprobs` of them, one row per rollout in order."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    num_tokens = sum(int(rollout.loss_mask.sum()) for rollout in rollouts)
    total = sum(
        float(row[rollout.loss_mask].sum(dtype=np.float64)) for row, rollout in zip(logprobs, rollouts, strict=True)
    )
    return HeldoutLoss(-total / num_tokens, num_tokens)
