"""From scored groups to what the learner reads: pure.

groups, scores --> advantage per rollout (and segment) --> advantage per token --> TrainGroup
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.types import GroupScore
from rl.advantages import build_train_advantages
from rl.config import AdvantageKind
from rl.types import TrainGroup, TrainRollout
from rollouts.types import Group, Rollout


@dataclass(frozen=True, slots=True, eq=False)
class TrainBatch:
    """What a step learns from. `metrics` describe the rewards; `reliability` is the mean over groups that have one."""

    groups: tuple[TrainGroup, ...]
    reliability: float | None
    metrics: dict[str, float]


def build_train_batch(
    groups: Sequence[Group], scores: Sequence[GroupScore], *, advantage: AdvantageKind, min_group: int
) -> TrainBatch:
    """Advantages of a step's groups, laid over their tokens.

    Unscored rollouts and groups with fewer than `min_group` scored ones are left out and counted. Tokens that the
    policy did not choose get advantage 0 and stay outside the loss.

    Raises:
        ValueError: a group and its score do not fit, or a score is of another group size.
    """
    for group, score in zip(groups, scores, strict=True):
        if len(score.rewards) != len(group.rollouts):
            raise ValueError(f"group {group.key} has {len(group.rollouts)} slots and {len(score.rewards)} rewards")
    built = build_train_advantages(
        [score.rewards for score in scores],
        kind=advantage,
        min_group=min_group,
        baseline_ids=[score.baseline_ids for score in scores],
    )
    train_groups: list[TrainGroup] = []
    for p, group in enumerate(groups):
        rollouts = tuple(
            _train_rollout(rollout, float(built.advantages_PG[p, slot]))
            for slot, rollout in enumerate(group.rollouts)
            if rollout is not None and built.scored_PG[p, slot] and rollout.num_tokens > 0
        )
        if rollouts:
            train_groups.append(TrainGroup(p, group.prompt_token_ids, rollouts))
    reliabilities = [score.reliability for score in scores if score.reliability is not None]
    reliability = float(np.mean(reliabilities)) if reliabilities else None
    return TrainBatch(
        groups=tuple(train_groups),
        reliability=reliability,
        metrics=_reward_metrics(groups, scores, reliability)
        | {
            "reward/num_groups_dropped": float(built.num_dropped),
            "reward/num_groups_zero_signal": float(built.num_zero_signal),
            "reward/num_unscored": float(built.num_unscored),
            "reward/advantage_std": float(built.advantages_PG[built.scored_PG].std()) if built.scored_PG.any() else 0.0,
        },
    )


def _train_rollout(rollout: Rollout, advantage: float) -> TrainRollout:
    return TrainRollout(
        token_ids=rollout.token_ids,
        loss_mask=rollout.loss_mask,
        advantages=np.where(rollout.loss_mask, np.float32(advantage), np.float32(0.0)),
        segment_ids=np.full(rollout.num_tokens, -1, dtype=np.int32),
        rollout_logprobs=rollout.logprobs,
    )


def _reward_metrics(
    groups: Sequence[Group], scores: Sequence[GroupScore], reliability: float | None
) -> dict[str, float]:
    rewards = [reward for score in scores for reward in score.rewards if reward is not None]
    rollouts = [rollout for group in groups for rollout in group.rollouts if rollout is not None]
    metrics = {
        "reward/num_scored": float(len(rewards)),
        "rollout/num_rollouts": float(len(rollouts)),
        "rollout/num_lost": float(sum(rollout is None for group in groups for rollout in group.rollouts)),
        "rollout/num_tokens": float(sum(rollout.num_tokens for rollout in rollouts)),
    }
    if rewards:
        spreads = [np.std([r for r in score.rewards if r is not None]) for score in scores if score.num_scored > 1]
        metrics["reward/mean"] = float(np.mean(rewards))
        metrics["reward/group_std"] = float(np.mean(spreads)) if spreads else 0.0
    if rollouts:
        metrics["rollout/mean_tokens"] = float(np.mean([rollout.num_tokens for rollout in rollouts]))
        metrics["rollout/truncated_fraction"] = float(
            np.mean([rollout.finish_reason == "length" for rollout in rollouts])
        )
    if reliability is not None:
        metrics["reward/reliability"] = reliability
    gated = sum(len(slots) for score in scores for slots in score.gate_failures.values())
    metrics["reward/num_gate_failures"] = float(gated)
    for name in sorted({name for score in scores for name in score.gate_failures}):
        metrics[f"gate/{name}/num_failed"] = float(sum(len(score.gate_failures.get(name, ())) for score in scores))
    for name in sorted({name for score in scores for name in score.gate_scores}):
        said = [value for score in scores for value in score.gate_scores.get(name, ()) if value is not None]
        if said:
            metrics[f"gate/{name}/mean_score"] = sum(said) / len(said)
    return metrics
